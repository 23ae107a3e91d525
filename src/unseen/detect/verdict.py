"""What an examination found, in a form for programs (`to_dict`) and for people (`to_html`)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from unseen.detect.concepts import Likeness
from unseen.media.quality import Quality

__all__ = ["Evidence", "Person", "Sighting", "State", "Verdict", "rarity"]

State = Literal["real", "fake", "inconclusive", "not_applicable", "error"]

HEADLINES: dict[State, str] = {
    "fake": "Signs of forgery",
    "real": "No sign of forgery found",
    "inconclusive": "Cannot tell",
    "not_applicable": "No face to examine",
    "error": "Not examined",
}

# Reason codes are stable; the sentences are for people and may change. {…} are filled by the verdict.
REASONS: dict[str, str] = {
    "above_threshold": "At least one person scores above the threshold.",
    "below_threshold": "Every person scores as real people usually do.",
    "in_band": "The score lies where real and forged faces overlap.",
    "no_face": "No face was found in the frames looked at.",
    "face_too_small": "Faces were found, but all are too small to be judged.",
    "face_too_blurred": "Faces were found, but all are too blurred to be judged.",
    "bad_landmarks": "Faces were found, but eyes, nose and mouth could not be placed.",
    "not_finite": "The network gave no number for any face; the model is damaged.",
    "missing": "There is no such file.",
    "not_a_file": "This is not a file.",
    "permission": "The file may not be read.",
    "empty": "The file is empty.",
    "unreadable": "The file cannot be decoded as a picture or a video.",
    "no_frames": "The video holds no picture that can be decoded.",
    "too_large": "The file is larger than the limits allow.",
    "timeout": "The file took longer than a file may take.",
    "crashed": "Reading the file ended the process that read it.",
    "internal": "The examination stopped on an error of the program itself; please report it.",
}

MEANING: dict[State, tuple[str, str]] = {
    "fake": (
        "The detector sees traces in at least one face that it also sees in manipulated faces and seldom in "
        "real ones.",
        "It is evidence, not proof. Filters, heavy compression, retouching or an unusual camera can leave "
        "such traces on a genuine picture. It does not say who changed what, or why.",
    ),
    "real": (
        "No face that could be judged shows more traces of manipulation than real faces usually do.",
        "It does not prove that the file is genuine. A forgery of a kind that the detector cannot see, a "
        "wholly generated picture, changed sound, or a real picture in a false context would look the same.",
    ),
    "inconclusive": (
        "Forgeries score like this, and so do too many real people for the stated false-alarm rate to allow "
        "calling it forged.",
        "It is neither a weak yes nor a weak no. Look for the original file, a longer passage or a sharper "
        "copy, and ask a person.",
    ),
    "not_applicable": (
        "This detector examines faces; it had none that it could use.",
        "It says nothing about whether the file is genuine.",
    ),
    "error": (
        "The file could not be examined; the reason is given above.",
        "It says nothing about whether the file is genuine.",
    ),
}


@dataclass(eq=False)
class Sighting:
    """One face in one frame.

    Attributes:
        frame: Number of the frame in the file, from 0.
        time: Seconds from the start.
        box: x0 y0 x1 y1 in pixels of the frame.
        status: `scored`, or `dropped` with a `reason`.
        score: Log-odds of fake as the network gave them; None when dropped.
        probability: The calibrated probability of fake; None when dropped.
        size: The box's longer side in pixels.
        blur: The sharpness measure of `unseen.media.crop`; small is blurred.
        face_score: How sure the face finder was, in [0, 1].
    """

    frame: int
    time: float
    box: tuple[float, float, float, float]
    status: Literal["scored", "dropped"] = "scored"
    reason: str | None = None
    score: float | None = None
    probability: float | None = None
    size: float = 0.0
    blur: float = 0.0
    face_score: float = 0.0
    thumbnail: bytes = b""  # JPEG, small
    quality: Quality | None = None  # of the crop, where it was judged

    def to_dict(self) -> dict[str, Any]:
        """Everything but the picture."""
        return {
            "frame": self.frame,
            "time": self.time,
            "status": self.status,
            "reason": self.reason,
            "score": self.score,
            "probability": self.probability,
            "box": list(self.box),
            "size": self.size,
            "blur": self.blur,
            "face_score": self.face_score,
            "quality": None if self.quality is None else asdict(self.quality),
        }


@dataclass(frozen=True)
class Region:
    """A part of a face that the detector takes for forged.

    Attributes:
        corners: Four points of the *frame*, in order: a box of the aligned face lies turned in the frame.
        score: How certain the detector is that this part is forged, in [0, 1]; not calibrated.
    """

    corners: tuple[tuple[float, float], ...]
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Corners, the upright box around them (x0 y0 x1 y1), and the score."""
        x, y = zip(*self.corners, strict=True)
        box = [min(x), min(y), max(x), max(y)]
        return {"corners": [list(corner) for corner in self.corners], "box": box, "score": self.score}


@dataclass(eq=False)
class Evidence:
    """A suspicious face as JPEG pictures: the frame with boxes, the face, the face with its heat map.

    Attributes:
        heatmap: Grad-CAM at the network's own resolution, rows of numbers in [0, 1]; empty if it has none.
        matrix: (2, 3) as rows; maps a point of the *frame* to the network's input of `input_size` pixels.
        explanations: Pictures that the detector itself has to show, a kind and a JPEG each.
        concept: The real concept that the face looks most like; None for a detector that remembers none.
        regions: Parts that were found forged, the most certain first; None if the detector looks for none.
        region_picture: The face with these drawn in.
    """

    person: int
    sighting: Sighting
    frame_picture: bytes = b""
    face_picture: bytes = b""
    heat_picture: bytes = b""
    heatmap: list[list[float]] = field(default_factory=list)
    matrix: list[list[float]] = field(default_factory=list)
    input_size: tuple[int, int] = (0, 0)  # height, width
    explanations: list[tuple[str, bytes]] = field(default_factory=list)
    concept: Likeness | None = None
    regions: list[Region] | None = None
    region_picture: bytes = b""

    def to_dict(self, *, pictures: bool = False) -> dict[str, Any]:
        """Numbers, and the pictures as data URIs when asked for."""
        row: dict[str, Any] = {
            "person": self.person,
            **{key: self.sighting.to_dict()[key] for key in ("frame", "time", "score", "probability", "box")},
            "heatmap": self.heatmap,
            "matrix": self.matrix,
            "input_size": list(self.input_size),
        }
        if self.regions is not None:
            row["regions"] = [region.to_dict() for region in self.regions]
        if self.concept is not None:
            row["concept"] = self.concept.to_dict(pictures=pictures)
        if pictures:
            from unseen.explain.draw import data_uri

            for name in ("frame_picture", "face_picture", "region_picture", "heat_picture"):
                picture = getattr(self, name)
                row[name] = data_uri(picture) if picture else None
            row["explanations"] = [
                {"kind": kind, "picture": data_uri(data)} for kind, data in self.explanations
            ]
        return row


@dataclass(eq=False)
class Person:
    """One person through the file. `score` is the mean of the scores of the frames that could be judged."""

    id: int
    verdict: State
    reason: str
    frames: list[Sighting]
    score: float | None = None
    probability: float | None = None
    p_value: float | None = None
    quality: dict[str, float] = field(default_factory=dict)  # medians of the judged frames
    unlike: list[str] = field(default_factory=list)  # how the pictures differ from those of calibration

    @property
    def scored(self) -> list[Sighting]:
        """The sightings that count."""
        return [sighting for sighting in self.frames if sighting.status == "scored"]

    def to_dict(self) -> dict[str, Any]:
        """As one entry of `people`."""
        return {
            "id": self.id,
            "verdict": self.verdict,
            "reason": self.reason,
            "probability": self.probability,
            "score": self.score,
            "p_value": self.p_value,
            "rarity": rarity(self.p_value),
            "quality": self.quality,
            "unlike": self.unlike,
            "frames_scored": len(self.scored),
            "frames": [sighting.to_dict() for sighting in self.frames],
        }


@dataclass(eq=False)
class Verdict:
    """What was found in one file, and everything needed to check it.

    Attributes:
        file: The path as it was given.
        verdict: `real`, `fake`, `inconclusive`, `not_applicable` or `error`.
        reason: A stable code, see `REASONS`.
        message: One sentence with the particulars, such as the text of an `InputError`.
        probability: Calibrated probability of fake of the most suspicious person; None without one.
        p_value: Share of the real people of the calibration set that look at least this unreal.
        threshold: Probability from which a person counts as fake.
        inconclusive_from: Probability from which a person is no longer called real.
        threshold_rule: How the threshold was chosen, in words.
        counts: Frames looked at, with faces, judged; faces found, judged, dropped by reason.
        media: Facts about the file: kind, width, height, duration, codec ...
        model: Name of the run. `model_card` holds its facts, `limits` what it was trained on, in words.
    """

    file: str
    verdict: State
    reason: str
    message: str = ""
    probability: float | None = None
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    inconclusive_from: float | None = None
    threshold_rule: str = ""
    people: list[Person] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    media: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    model: str | None = None
    model_card: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""  # UTC, ISO 8601
    seconds: float | None = None  # how long it took

    @property
    def headline(self) -> str:
        """The answer in a few words."""
        return HEADLINES[self.verdict]

    @property
    def rarity(self) -> str:
        """The p-value in words; empty without one."""
        return rarity(self.p_value)

    @property
    def means(self) -> str:
        """What this verdict says."""
        return MEANING[self.verdict][0]

    @property
    def means_not(self) -> str:
        """What this verdict does not say."""
        return MEANING[self.verdict][1]

    @property
    def explanation(self) -> str:
        """The reason as a sentence: the particulars if there are any."""
        return self.message or REASONS.get(self.reason, self.reason)

    def to_dict(self, *, pictures: bool = False) -> dict[str, Any]:
        """Everything, in plain types that JSON knows; a number that is not finite becomes None.

        Args:
            pictures: Put the evidence's pictures in as data URIs.
        """
        facts: dict[str, Any] = plain(
            {
                "file": self.file,
                "verdict": self.verdict,
                "reason": self.reason,
                "headline": self.headline,
                "explanation": self.explanation,
                "means": self.means,
                "means_not": self.means_not,
                "probability": self.probability,
                "score": self.score,
                "p_value": self.p_value,
                "rarity": self.rarity,
                "threshold": self.threshold,
                "inconclusive_from": self.inconclusive_from,
                "threshold_rule": self.threshold_rule,
                "people": [person.to_dict() for person in self.people],
                "evidence": [piece.to_dict(pictures=pictures) for piece in self.evidence],
                "warnings": self.warnings,
                "counts": self.counts,
                "media": self.media,
                "sha256": self.sha256,
                "model": self.model,
                "model_card": self.model_card,
                "settings": self.settings,
                "command": self.command,
                "version": self.versions.get("unseen", ""),
                "versions": self.versions,
                "created": self.created,
                "seconds": self.seconds,
            }
        )
        return facts

    def to_json(self, *, indent: int | None = 2, pictures: bool = False) -> str:
        """`to_dict` as text; strict JSON in ASCII, so no file name can break it."""
        return json.dumps(self.to_dict(pictures=pictures), indent=indent, allow_nan=False)

    def to_html(self) -> str:
        """One self-contained page, see `unseen.detect.report`."""
        from unseen.detect.report import report

        return report([self])


def rarity(p_value: float | None) -> str:
    """A conformal p-value as a sentence.

    >>> rarity(0.004)
    'Fewer than 1 in 100 real people look this unreal.'
    >>> rarity(0.0112), rarity(0.5)
    ('About 1 in 100 real people look at least this unreal.',
     'About 50 in 100 real people look at least this unreal.')
    """
    if p_value is None:
        return ""
    if p_value < 0.01:
        return "Fewer than 1 in 100 real people look this unreal."
    return f"About {round(100 * p_value)} in 100 real people look at least this unreal."


def plain(value: Any) -> Any:
    """Bring a value to what strict JSON holds: numpy becomes lists and numbers, NaN and infinity None."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return str(value)
