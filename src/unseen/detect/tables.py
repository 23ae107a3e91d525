"""The facts below a verdict, as rows of a name and a value: evidence, file, detector, versions."""

from __future__ import annotations

import unicodedata
from typing import Any

from unseen.detect.verdict import Verdict

__all__ = ["DROPPED", "tables", "visible"]

DROPPED = {
    "face_too_small": "face too small",
    "face_too_blurred": "face too blurred",
    "bad_landmarks": "features of the face not found",
    "no_face": "no face",
}


def visible(text: str) -> str:
    r"""Write out what would hide or reorder text, and bytes that are no UTF-8.

    >>> visible("photo\u202egpj.exe")
    'photo\\u202egpj.exe'
    """
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(
        letter.encode("unicode_escape").decode("ascii")
        if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp", "Co")
        else letter
        for letter in safe
    )


def tables(verdict: Verdict) -> list[dict[str, Any]]:
    """Quality of the evidence, the file, the model, the run."""
    counts, media, card = verdict.counts, verdict.media, verdict.model_card
    blocks: list[dict[str, Any]] = []
    if counts:
        rows = [
            ("Frames looked at", counts.get("frames", 0)),
            ("Frames with a face", counts.get("frames_with_faces", 0)),
            ("Faces found", counts.get("faces", 0)),
            ("Faces judged", counts.get("faces_judged", 0)),
        ]
        for reason, number in counts.get("dropped", {}).items():
            rows.append((f"Left out: {DROPPED.get(reason, reason)}", number))
        scored = sorted(s.size for person in verdict.people for s in person.scored)
        if scored:
            blur = sorted(s.blur for person in verdict.people for s in person.scored)
            rows.append(
                (
                    "Face size",
                    f"{scored[0]:.0f} to {scored[-1]:.0f} px, median {scored[len(scored) // 2]:.0f}",
                )
            )
            rows.append(("Sharpness", f"{blur[0]:.0f} to {blur[-1]:.0f}, median {blur[len(blur) // 2]:.0f}"))
        limits = verdict.settings
        note = (
            f"A face is judged from {limits['min_face']:g} pixels and a sharpness of {limits['min_blur']:g}."
            if "min_face" in limits
            else ""
        )
        blocks.append({"title": "Quality of the evidence", "rows": rows, "note": note})
    rows = [("Path", visible(verdict.file))]
    names = {"kind": "Kind", "container": "Container", "codec": "Codec"}
    rows += [(name, visible(str(media[key]))) for key, name in names.items() if media.get(key)]
    if media.get("width"):
        rows.append(("Size", f"{media['width']} x {media['height']} pixels"))
    if media.get("kind") == "video":
        if media.get("duration"):
            rows.append(("Length", f"{media['duration']:.2f} s"))
        if media.get("fps"):
            rows.append(("Frames a second", f"{media['fps']:.3g}"))
    if media.get("bytes") is not None:
        rows.append(("Bytes", f"{media['bytes']:,}"))
    if verdict.sha256:
        rows.append(("SHA-256", verdict.sha256))
    blocks.append({"title": "The file", "rows": rows, "note": ""})
    if media.get("traces"):
        blocks.append({"title": "What the file says about its making", **making(media["traces"])})
    rows = [("Name", visible(verdict.model))] if verdict.model else []
    rows += [(name, visible(str(value))) for name, value in card.items()]
    if rows:
        note = "What a detector has not been trained on it may miss, or take a harmless change for a forgery."
        blocks.append({"title": "The detector", "rows": rows, "note": note})
    rows = [(name, value) for name, value in verdict.versions.items()]
    if verdict.created:
        rows.insert(0, ("Examined", verdict.created))
    if verdict.seconds is not None:
        rows.append(("Time taken", f"{verdict.seconds:.1f} s"))
    if rows:
        blocks.append({"title": "Versions", "rows": rows, "note": ""})
    return blocks


NAMES = {
    "camera": "Camera",
    "created": "Time in its tags",
    "software": "Software named",
    "encoder": "Encoder's own line",
    "handlers": "Handlers",
    "brand": "Brand",
    "bit_rate": "Bits a second",
    "jpeg_quality": "JPEG quality (nearest of libjpeg)",
    "jpeg_tables": "JPEG tables",
    "jpeg_sampling": "JPEG sampling",
    "jpeg_progressive": "JPEG progressive",
    "jpeg_gaps": "Missing JPEG values (0 to 1)",
    "unread": "Could not be read",
}
C2PA = {
    "not looked for": "not looked for",
    "none": "none in the file",
    "present": "present",
    "unreadable": "present or damaged: could not be read",
}


def making(traces: dict[str, Any]) -> dict[str, Any]:
    """Hints on a file's history, and its content credentials."""
    rows: list[tuple[str, Any]] = []
    for key, name in NAMES.items():
        value = traces.get(key)
        if value is not None:
            said = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            rows.append((name, visible(said)))
    rows += [("Hint", sentence) for sentence in traces.get("reencoded", [])]
    credentials = traces.get("c2pa") or {}
    if credentials:
        status = str(credentials.get("status"))
        rows.append(("Content credentials (C2PA)", C2PA.get(status, status)))
        for key in ("validation", "generator", "issuer", "title", "note", "actions", "problems"):
            value = credentials.get(key)
            if value:
                said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                rows.append((f"C2PA: {key}", visible(said)))
    note = (
        "Hints, no proof: tags can be removed or forged, and platforms compress again whatever they are "
        "given. A missing record says nothing; a valid one says that the file was not changed since it was "
        "signed, and the signer's name in it is a claim that was not checked."
    )
    return {"rows": rows, "note": note}
