"""A contact sheet: one row a person, one column a family, to see whether a bench is any good."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unseen.forge.families import FAMILIES, family
from unseen.forge.family import Learner, Unforgeable
from unseen.forge.groups import group_of
from unseen.forge.run import plan
from unseen.forge.work import ForgeRule, Job, Real, portrait, read_picture
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.data.manifest import Manifest

__all__ = ["contact_sheet", "face_of", "preview"]

_Image = NDArray[np.uint8]
_PAPER, _INK = 255, (40, 40, 40)


def contact_sheet(
    rows: Sequence[Sequence[_Image | str]],
    columns: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    cell: int = 192,
) -> _Image:
    """Lay pictures out in a table with headings.

    Args:
        rows: Pictures, or a few words where there is none.
        columns: Headings.
        names: Of the rows, written below their first picture; None leaves them out.
        cell: Side of a cell, pixels.

    Returns:
        The sheet.

    Shape:
        pictures: (h, w, 3) uint8 RGB. Returns (H, W, 3) uint8 RGB.
    """
    gap, head = max(2, cell // 32), max(18, cell // 8)
    foot = 0 if names is None else head
    size = gap + len(columns) * (cell + gap), head + len(rows) * (cell + foot + gap) + gap
    sheet = Image.new("RGB", size, (_PAPER,) * 3)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=round(0.62 * head))
    for c, title in enumerate(columns):
        draw.text((gap + c * (cell + gap) + cell / 2, head / 2), title, _INK, font, anchor="mm")
    for r, row in enumerate(rows):
        y = head + r * (cell + foot + gap)
        for c, shown in enumerate(row):
            x = gap + c * (cell + gap)
            if isinstance(shown, str):
                draw.rectangle((x, y, x + cell - 1, y + cell - 1), (230, 230, 230))
                draw.text((x + cell / 2, y + cell / 2), shown, _INK, font, anchor="mm")
            else:
                sheet.paste(Image.fromarray(_square(shown, cell)), (x, y))
        if names is not None:
            draw.text((gap + cell / 2, y + cell + foot / 2), names[r], _INK, font, anchor="mm")
    return np.asarray(sheet, np.uint8)


def _square(image: _Image, side: int) -> _Image:
    """Fit a picture into a square, with paper around it."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(image, size, interpolation=method)
    result = np.full((side, side, 3), _PAPER, np.uint8)
    x, y = (side - size[0]) // 2, (side - size[1]) // 2
    result[y : y + size[1], x : x + size[0]] = small
    return result


def face_of(image: _Image, landmarks: NDArray[np.float32]) -> _Image:
    """Return a square around the face, so that a small sheet shows what matters.

    Shape:
        image: (H, W, 3) uint8. landmarks: (81, 2). Returns (h, w, 3) uint8.
    """
    low, high = landmarks[:68].min(0), landmarks[:68].max(0)
    middle, reach = (low + high) / 2, 0.72 * float((high - low).max())
    middle = middle - [0, 0.12 * (high[1] - low[1])]
    x0, y0 = (max(0, round(float(v))) for v in middle - reach)
    x1, y1 = (round(float(v)) for v in middle + reach)
    return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def preview(
    manifest: Manifest | str | Path,
    out: str | Path,
    *,
    families: Sequence[str] = FAMILIES,
    people: int = 6,
    seed: int = 0,
    strengths: Mapping[str, Mapping[str, Any]] | None = None,
    cell: int = 192,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Forge a few people by every family, in memory, and write one picture of the results.

    Args:
        manifest: From `unseen prepare`, as for `forge`.
        out: The picture; `.png` or `.jpg`.
        families: The columns after the real picture.
        people: The rows: people drawn by `seed`.
        seed: Of everything random. A forgery is the one that `forge` makes first with this seed; but families
            that learn people learn only the shown ones and their donors here, which takes a minute or so.
        strengths: Keywords of the families' classes, by family.
        cell: Side of a cell, pixels.
        report: Called with (pictures done, pictures in all).

    Raises:
        InputError: As for `forge`; or `out` is no picture's name.
    """
    out = Path(out)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{out}: a contact sheet ends in .png or .jpg", reason="format")
    rule = ForgeRule(seed, {name: dict(kind) for name, kind in (strengths or {}).items()})
    jobs = plan(manifest, families=families, per_identity=1, rule=rule).jobs
    names = sorted({job.target.identity for job in jobs})
    order = np.random.default_rng(seed).permutation(len(names))[:people]
    chosen = [names[i] for i in sorted(order)]
    makers = {name: family(name, rule.strengths.get(name)) for name in families}
    for name, maker in makers.items():
        if isinstance(maker, Learner):
            mine = [job for job in jobs if job.method == name and job.target.identity in chosen]
            shown = {real.identity for job in mine for real in (job.target, job.donor) if real is not None}
            known = [j.target for j in jobs if j.method == "real" and j.target.identity in shown]
            if len(shown) > 1:
                maker.learn([portrait(real) for real in group_of(name, known, rule).members])
    rows: list[list[_Image | str]] = []
    for name in chosen:
        asked = {job.method: job for job in reversed(jobs) if job.target.identity == name}
        row: list[_Image | str] = [_show(asked["real"].target)]
        for method, maker in makers.items():
            row.append(_try(asked[method], maker))
            if report:
                report(len(rows) * len(makers) + len(row) - 1, len(chosen) * len(makers))
        rows.append(row)
    sheet = contact_sheet(rows, ["real", *families], cell=cell)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(out)
    return out


def _show(real: Real) -> _Image:
    return face_of(read_picture(real.path), real.landmarks)


def _try(job: Job, maker: Any) -> _Image | str:
    try:
        donor = None if job.donor is None else portrait(job.donor)
        forged = maker(portrait(job.target), donor, np.random.default_rng(job.seed))
    except Unforgeable as error:
        return error.reason
    return face_of(forged.image, job.target.landmarks)
