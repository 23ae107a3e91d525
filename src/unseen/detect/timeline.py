"""A person's scores over time, as places in a plot; the template draws them as inline SVG.

Times are percent of the width, so that the plot fits a phone and a desk without its letters shrinking;
probabilities are pixels of a fixed height.
"""

from __future__ import annotations

from typing import Any

from unseen.detect.verdict import Person, Sighting, Verdict

__all__ = ["clock", "percent", "timeline"]

TOP, BOTTOM = 20.0, 150.0  # pixels, probability 1 and 0
LEFT, RIGHT = 1.5, 98.5  # percent


def percent(probability: float | None) -> str:
    """A probability for people; never "100 %" or "0 %", which no detector can know.

    >>> percent(0.873), percent(0.9999), percent(0.0001), percent(None)
    ('87 %', 'over 99 %', 'under 1 %', 'none')
    """
    if probability is None:
        return "none"
    if probability > 0.99:
        return "over 99 %"
    if probability < 0.01:
        return "under 1 %"
    return f"{round(100 * probability)} %"


def clock(seconds: float) -> str:
    """A time as people read it.

    >>> clock(4.25), clock(75.0), clock(3725.0)
    ('4.2 s', '1:15', '1:02:05')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def timeline(person: Person, verdict: Verdict) -> dict[str, Any]:
    """Place every frame of a person between the file's start and end."""
    last = max(sighting.time for sighting in person.frames)
    end = max(float(verdict.media.get("duration") or 0.0), last, 1e-6)

    def x(sighting: Sighting) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, sighting.time / end)), 3)

    def y(probability: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * min(1.0, max(0.0, probability)), 2)

    dots, lost, lines = [], [], []
    suspicious = 0
    before: Sighting | None = None
    for sighting in sorted(person.frames, key=lambda s: s.time):
        if sighting.probability is None:
            why = (sighting.reason or "not judged").replace("_", " ")
            lost.append({"x": x(sighting), "text": f"{clock(sighting.time)}: not judged, {why}"})
            before = None  # a line over a gap would claim what nobody saw
            continue
        over = bool(verdict.threshold is not None and sighting.probability >= verdict.threshold)
        suspicious += over
        word = ", at or above the threshold" if over else ""
        text = f"{clock(sighting.time)}: {percent(sighting.probability)}{word}"
        dots.append({"x": x(sighting), "y": y(sighting.probability), "over": over, "text": text})
        if before is not None and before.probability is not None:
            lines.append(
                {
                    "x1": x(before),
                    "y1": y(before.probability),
                    "x2": x(sighting),
                    "y2": y(sighting.probability),
                }
            )
        before = sighting
    band = None
    if verdict.inconclusive_from is not None and verdict.threshold is not None:
        top, bottom = y(verdict.threshold), y(verdict.inconclusive_from)
        if bottom - top > 0.5:
            band = {"y": top, "height": round(bottom - top, 2)}
    return {
        "dots": dots,
        "lines": lines,
        "lost": lost,
        "band": band,
        "limit": None if verdict.threshold is None else y(verdict.threshold),
        "ticks": [{"y": y(value), "text": f"{100 * value:.0f} %"} for value in (1.0, 0.5, 0.0)],
        "start": clock(0.0),
        "end": clock(end),
        "text": (
            f"Probability of forgery of person {person.id} over time: {len(dots)} frames judged, "
            f"{suspicious} at or above the threshold, {len(lost)} not judged"
        ),
    }
