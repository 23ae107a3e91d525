"""A report that a person can read, print and mail: one HTML file that loads and runs nothing.

File names, container tags and error texts are hostile input: Jinja2 escapes every value, and control and
direction marks in names are written out. Templates hold the page, this file what stands in it.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unseen.detect.concepts import Likeness
from unseen.detect.tables import DROPPED, tables, visible
from unseen.detect.timeline import clock, percent, timeline
from unseen.detect.verdict import Evidence, Person, Sighting, Verdict
from unseen.explain.draw import data_uri, legend
from unseen.types import InputError

__all__ = ["report", "visible", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
DETAILED = 8  # people shown at length; the rest of a crowd is a grid of faces
STRIP = 10  # thumbnails a person
EXPLAINED = {  # what a detector's own pictures are called here, and described as
    "reconstruction": (
        "As real faces would have it",
        "The same face, each part repainted from the rest by a network that has seen real faces only",
    ),
    "residual": (
        "What differs from that",
        "The difference between the face and its repainting; grey where the two agree",
    ),
    "forgery attention": (
        "What goes to the verdict",
        "The same face; colours show where the network looks for what tells forgeries, from least to most",
    ),
    "domain attention": (
        "What tells the method",
        "The same face; colours show where the network looks for which method was used, from least to most",
    ),
}


def report(verdicts: Sequence[Verdict]) -> str:
    """Write one page about one or many files.

    Args:
        verdicts: In the order in which they shall stand.

    Returns:
        HTML with inline style and pictures as data URIs; no scripts, nothing from elsewhere.
    """
    files = [describe(verdict) for verdict in verdicts]
    first = verdicts[0] if verdicts else None
    title = f"{files[0]['name']}: {first.headline}" if first and len(files) == 1 else f"{len(files)} files"
    page: str = (
        environment()
        .get_template("report.html.j2")
        .render(
            title=f"{title} - unseen",
            style=style(),
            files=files,
            created=first.created if first else "",
            version=first.versions.get("unseen", "") if first else "",
            legend=data_uri(legend()),
        )
    )
    return page


def write_report(verdicts: Sequence[Verdict], path: str | Path) -> Path:
    """Write the page to a file; a file that stood there is replaced only when the new one is whole."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    if path.suffix.lower() == ".json":  # the same content, pictures included
        text = json.dumps([v.to_dict(pictures=True) for v in verdicts], indent=1, allow_nan=False)
    else:
        text = report(verdicts)
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: the report cannot be written ({error})", reason="permission") from error
    return path


@functools.cache
def environment() -> Any:
    """Jinja2, escaping everything; an unknown name in a template is an error, never an empty string."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )


@functools.cache
def style() -> Any:
    """The style sheet, which is ours and therefore not escaped."""
    import markupsafe

    return markupsafe.Markup((TEMPLATES / "report.css").read_text("utf-8"))


def describe(verdict: Verdict) -> dict[str, Any]:
    """Everything the page says about one file."""
    # Most suspicious first; those who could not be judged last.
    people = sorted(verdict.people, key=lambda p: -math.inf if p.score is None else p.score, reverse=True)
    shown = people[:DETAILED]
    return {
        "verdict": verdict,
        "name": visible(Path(verdict.file).name or verdict.file),
        "explanation": visible(verdict.explanation),
        "probability": percent(verdict.probability),
        "scale": scale(verdict),
        "facts": facts(verdict),
        "shots": [shot(piece, verdict) for piece in verdict.evidence],
        "heated": any(_heated(piece) for piece in verdict.evidence),
        "people": [portray(person, verdict) for person in shown],
        "crowd": [
            {"id": p.id, "face": face(p.frames), "short": percent(p.probability)} for p in people[DETAILED:]
        ],
        "tables": tables(verdict),
        "command": visible(verdict.command),
        "record": record(verdict),
    }


def record(verdict: Verdict) -> str:
    """Everything that `--json` gives of the file, as text: what the page rounds or leaves out stands here."""
    return json.dumps(verdict.to_dict(), indent=1, ensure_ascii=True, allow_nan=False)


def scale(verdict: Verdict) -> dict[str, Any] | None:
    """The bar from 0 to 100 % with its threshold; places in percent of the width."""
    if verdict.probability is None or verdict.threshold is None:
        return None
    limit, doubtful = 100 * verdict.threshold, verdict.inconclusive_from
    low = None if doubtful is None else 100 * doubtful
    return {
        "at": 1.2 + 97.6 * verdict.probability,
        "limit": limit,
        "rest": 100 - limit,
        "doubtful": low,
        "width": 0 if low is None else max(0.0, limit - low),
        "text": (
            f"Probability of forgery {percent(verdict.probability)}, threshold {percent(verdict.threshold)}"
        ),
    }


def facts(verdict: Verdict) -> list[dict[str, str]]:
    """The numbers under the headline."""
    if verdict.probability is None:
        return []
    rows = [
        {
            "name": "Probability of forgery",
            "value": percent(verdict.probability),
            "note": "calibrated, of the most suspicious person" if len(verdict.people) > 1 else "calibrated",
        },
        {"name": "Threshold", "value": percent(verdict.threshold), "note": limit_note(verdict)},
    ]
    if verdict.p_value is not None:
        rows.append(
            {"name": "Rarity among real people", "value": share(verdict.p_value), "note": RARITY_NOTE}
        )
    counts = verdict.counts
    if verdict.media.get("kind") == "video":
        judged = f"{counts.get('frames_judged', 0)} of {counts.get('frames', 0)}"
        rows.append({"name": "Frames judged", "value": judged, "note": people_text(verdict)})
    else:
        rows.append({"name": "People", "value": str(len(verdict.people)), "note": ""})
    return rows


MEASURED = {  # `unseen.media.quality`, in words
    "size": "{:.0f} pixels",
    "sharpness": "sharpness {:.0f}",
    "blocks": "compression grid {:.2f}",
    "flat": "share without texture {:.3f}",
    "drawn": "drawn edges {:.0f}",
}
NO_HEAT = "No place of this face raised the score, so there is no heat map to show."
RARITY_NOTE = "real people of the calibration set that look at least this unreal"


def limit_note(verdict: Verdict) -> str:
    """What lies on either side of the threshold."""
    low, high = verdict.inconclusive_from, verdict.threshold
    if low is None or high is None or high - low < 0.005:
        return "from here on a person counts as forged"
    return f"from here on a person counts as forged; from {percent(low)} it cannot be told"


def share(p_value: float) -> str:
    """A share as people say it.

    >>> share(0.004), share(0.037), share(0.5)
    ('under 1 in 100', '4 in 100', '50 in 100')
    """
    return "under 1 in 100" if p_value < 0.01 else f"{round(100 * p_value)} in 100"


def people_text(verdict: Verdict) -> str:
    count = len(verdict.people)
    return f"{count} {'person' if count == 1 else 'people'}"


def face(sightings: Sequence[Sighting]) -> str:
    """The most telling thumbnail of a person: the most suspicious frame, else the largest face."""
    pictured = [sighting for sighting in sightings if sighting.thumbnail]
    if not pictured:
        return ""
    best = max(pictured, key=lambda s: (s.score is not None, s.score or 0.0, s.size))
    return data_uri(best.thumbnail)


def portray(person: Person, verdict: Verdict) -> dict[str, Any]:
    """One person: words, timeline, a strip of faces and a table."""
    video = verdict.media.get("kind") == "video"
    words = {"fake": "Suspicious", "real": "Unsuspicious", "inconclusive": "Cannot tell"}
    parts = []
    if person.probability is not None:
        parts.append(f"Probability of forgery {percent(person.probability)}")
    if person.p_value is not None:
        parts.append(f"{share(person.p_value)} real people look at least this unreal")
    if video:
        parts.append(f"{len(person.scored)} of {len(person.frames)} frames judged")
    if person.probability is None:
        parts.append(DROPPED.get(person.reason, person.reason))
    pictured = [sighting for sighting in person.frames if sighting.thumbnail]
    step = max(1, math.ceil(len(pictured) / STRIP))
    return {
        "id": person.id,
        "state": person.verdict,
        "word": words.get(person.verdict, "Not judged"),
        "line": " · ".join(parts),
        "quality": ", ".join(
            MEASURED[name].format(value) for name, value in person.quality.items() if name in MEASURED
        ),
        "unlike": "; ".join(person.unlike),
        "face": face(person.frames),
        "plot": timeline(person, verdict) if video and len(person.frames) > 1 else None,
        "strip": [
            {
                "uri": data_uri(sighting.thumbnail),
                "alt": f"Person {person.id} at {clock(sighting.time)}",
                "time": clock(sighting.time),
                "text": "not judged" if sighting.probability is None else percent(sighting.probability),
            }
            for sighting in (pictured[::step] if video else [])
        ],
        "rows": [
            [
                f"{s.time:.2f} s",
                s.frame,
                percent(s.probability),
                "" if s.score is None else f"{s.score:+.2f}",
                f"{s.size:.0f} px",
                f"{s.blur:.0f}",
                "judged" if s.status == "scored" else DROPPED.get(s.reason or "", s.reason),
            ]
            for s in person.frames
        ],
    }


def _heated(piece: Evidence) -> bool:
    """Whether there is a heat map with anything in it."""
    return bool(piece.heat_picture) and any(any(row) for row in piece.heatmap)


def shot(piece: Evidence, verdict: Verdict) -> dict[str, Any]:
    """One figure: the frame, the face, the face under its heat map."""
    who = f"person {piece.person}"
    when = f" at {clock(piece.sighting.time)}" if verdict.media.get("kind") == "video" else ""
    chance = percent(piece.sighting.probability)
    pictures = [
        (piece.frame_picture, "Whole frame", f"Whole frame{when}; {who} stands in a box"),
        (piece.face_picture, "The face", f"Face of {who}{when}, enlarged"),
        (
            piece.region_picture,
            "Parts taken for forged",
            "The same face; boxes show parts that the detector takes for forged, and how certain it is",
        ),
        (
            piece.heat_picture if _heated(piece) else b"",
            "Where the network looked",
            "The same face; colours show what raised the score",
        ),
        *((data, *EXPLAINED.get(kind, (kind, kind))) for kind, data in piece.explanations),
    ]
    caption = f"Person {piece.person}"
    if when:
        caption += f"{when}, frame {piece.sighting.frame}"
    return {
        "concept": None if piece.concept is None else likeness(piece.concept),
        "caption": f"{caption}: probability of forgery {chance}",
        "note": "" if _heated(piece) or not piece.heatmap else NO_HEAT,
        "pictures": [
            {"uri": data_uri(data), "caption": text, "alt": alt} for data, text, alt in pictures if data
        ],
    }


def likeness(concept: Likeness) -> dict[str, Any]:
    """The real concept that a face looks most like, with training faces of it."""
    usual = (
        ""
        if concept.usual is None
        else f" 19 of 20 real training faces reach {concept.usual:.2f} with theirs."
    )
    return {
        "text": (
            f"Looks most like real concept {concept.number} of {len(concept.all)}: "
            f"similarity {concept.similarity:.2f}.{usual}"
        ),
        "faces": [
            {
                "uri": data_uri(example.picture),
                "alt": f"A training face of real concept {concept.number}",
                "text": f"{example.similarity:.2f}",
            }
            for example in concept.nearest
            if example.picture
        ],
    }
