"""From scored faces to people, counts and warnings: pure functions."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unseen.detect.seeing import Gate, Look
from unseen.detect.verdict import Person, State

if TYPE_CHECKING:
    from unseen.evaluate.calibration import Calibration
    from unseen.media.reader import Media

__all__ = ["combine", "counts_of", "people_of", "probability_of", "warnings_of"]

CROWD = 5  # from so many judged people on, chance alone raises the false-alarm rate noticeably
# Bits for each pixel of the file, below which blocks and smears replace the traces that are looked for.
# H.264 of good quality has about 0.1, JPEG of quality 75 about 1.5.
STARVED_VIDEO, STARVED_IMAGE = 0.02, 0.35


def people_of(
    looks: Sequence[Look], tracks: Sequence[Sequence[tuple[int, int]]], calibration: Calibration
) -> list[Person]:
    """Turn tracks, each a list of (position of the look, position of the face), into judged people.

    A person's score is the mean of the scores of the frames that could be judged, which is what the
    calibration was made from.
    """
    from unseen.evaluate.scope import medians

    people = []
    for number, positions in enumerate(tracks, start=1):
        frames = [looks[i].sightings[j] for i, j in positions]
        person = Person(number, "not_applicable", "no_face", frames)
        scores = [s.score for s in person.scored if s.score is not None]
        if scores:
            person.score = statistics.fmean(scores)
            person.probability = probability_of(person.score, calibration)
            rare = calibration.p_value(person.score)
            person.p_value = None if math.isnan(rare) else rare
            person.verdict, person.reason = calibration.decide(person.score)
            person.quality = medians([s.quality for s in person.scored if s.quality is not None])
            if calibration.scope is not None:
                person.unlike = [rare.text for rare in calibration.scope.rare(person.quality)]
        else:
            reasons = Counter(s.reason or "no_face" for s in frames)
            person.reason = reasons.most_common(1)[0][0]
        people.append(person)
    return people


def probability_of(score: float, calibration: Calibration) -> float:
    """The calibrated probability of fake."""
    return float(calibration.probability(score))


def combine(people: Sequence[Person]) -> tuple[State, str, Person | None]:
    """A file is what its most suspicious person is: one forged person makes a forged file.

    People without a usable frame count only when nobody has one; then the reason is what stopped most.

    Returns:
        The file's state, the reason code, and the person who decided it.
    """
    judged = [person for person in people if person.score is not None]
    if judged:
        worst = max(judged, key=lambda person: person.score or -math.inf)
        return worst.verdict, worst.reason, worst
    if people:
        return "not_applicable", Counter(person.reason for person in people).most_common(1)[0][0], None
    return "not_applicable", "no_face", None


def counts_of(looks: Sequence[Look]) -> dict[str, Any]:
    """How much was looked at, judged and left out, and why."""
    sightings = [sighting for seen in looks for sighting in seen.sightings]
    dropped = Counter(s.reason or "unknown" for s in sightings if s.status == "dropped")
    return {
        "frames": len(looks),
        "frames_with_faces": sum(bool(seen.faces) for seen in looks),
        "frames_judged": sum(any(s.status == "scored" for s in seen.sightings) for seen in looks),
        "faces": len(sightings),
        "faces_judged": sum(s.status == "scored" for s in sightings),
        "dropped": dict(sorted(dropped.items())),
    }


def warnings_of(
    media: Media, looks: Sequence[Look], people: Sequence[Person], calibration: Calibration, gate: Gate
) -> list[str]:
    """Everything that a reader should weigh, in plain sentences, the gravest first."""
    said = list(media.warnings)
    counts, video = counts_of(looks), media.kind == "video"
    scored = [s for person in people for s in person.scored]
    judged = [person for person in people if person.score is not None]
    unit = "frames" if video else "faces"
    for reason, number in counts["dropped"].items():
        many = f"{number} of {counts['faces']} faces {'was' if number == 1 else 'were'} not judged: "
        said.append(many + WHY.get(reason, reason))
    if video and scored and counts["frames_judged"] < max(3, counts["frames"] / 4):
        said.append(
            f"Only {counts['frames_judged']} of {counts['frames']} frames show a face that could be judged; "
            "the verdict rests on these few."
        )
    said += outside(judged, calibration)
    if scored and calibration.scope is None:  # without a calibration's own pictures, fixed limits must do
        small = statistics.median(s.size for s in scored)
        if small < 1.5 * gate.min_face:
            said.append(
                f"The faces are small (median {small:.0f} pixels): fine traces "
                "of forgery may be lost, and scores are less reliable."
            )
        soft = statistics.median(s.blur for s in scored)
        if soft < 2 * gate.min_blur:
            said.append(f"The {unit} are blurred (median sharpness {soft:.0f}): scores are less reliable.")
    said += starved(media)
    said += strange(judged, calibration)
    if len(judged) >= CROWD:
        said.append(
            f"{len(judged)} people were judged, each against the same threshold: the more people a file "
            "shows, the likelier that one real person passes it by chance."
        )
    return said


def outside(judged: Sequence[Person], calibration: Calibration) -> list[str]:
    """Say in which ways faces are unlike those that the false-alarm rate was promised for."""
    if calibration.scope is None:
        return []
    known = calibration.scope.people
    rare = "fewer than 1 in 100" if known >= 99 else "not one"
    ways: dict[str, list[int]] = {}
    for person in judged:
        if person.unlike:
            ways.setdefault("; ".join(person.unlike), []).append(person.id)
    said = []
    for text, ids in ways.items():
        who = "The face is" if len(judged) == 1 else f"Person {ids[0]} is"
        if len(ids) > 1:
            who = f"{len(ids)} of {len(judged)} people are"
        said.append(
            f"{who} unlike those that the detector was calibrated on: {text} ({rare} of {known} real people "
            "is so). The stated false-alarm rate is not promised here."
        )
    return said


WHY = {
    "face_too_small": "too small.",
    "face_too_blurred": "too blurred.",
    "bad_landmarks": "eyes, nose and mouth could not be placed.",
    "not_finite": "the network gave no number.",
}


def starved(media: Media) -> list[str]:
    """Say so when the file has few bits for its pixels."""
    size = media.path.stat().st_size if media.path.exists() else 0
    pixels = float(media.width * media.height)
    if media.kind == "video":
        pixels *= (media.fps or 25.0) * media.duration
    limit = STARVED_VIDEO if media.kind == "video" else STARVED_IMAGE
    if not size or not pixels or 8 * size / pixels >= limit:
        return []
    return [
        f"The file is heavily compressed ({8 * size / pixels:.2g} bits a pixel): compression hides traces of "
        "forgery and leaves some of its own."
    ]


def strange(judged: Sequence[Person], calibration: Calibration) -> list[str]:
    """Say so when a score lies far outside the range that calibration saw in real people or forgeries."""
    known = calibration.real_scores
    if not judged or len(known) < 2:
        return []
    low, high = min(known), max(known)
    # Forgeries score higher than reals by nature; only beyond the far end of both is uncharted.
    high = max(high, *calibration.thresholds.values())
    reach = max(high - low, 1e-6)
    odd = [p for p in judged if p.score is not None and not low - 0.5 * reach <= p.score <= high + 2 * reach]
    if not odd:
        return []
    names = ", ".join(str(person.id) for person in odd[:5]) + (" and others" if len(odd) > 5 else "")
    return [
        f"The score of person {names} lies far outside the range seen in calibration: the picture may be "
        "of a kind the detector does not know, such as a drawing, a mask or an unusual camera."
    ]
