"""Embeddings drawn: a still SVG, a PNG, and one page to point at that needs nothing from elsewhere.

Groups differ in colour and in shape: seven colours that any colour vision tells apart (Okabe and Ito, 2008)
times four shapes. No plotting library is needed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unseen.explain.embedding import Color, Embedding, group_of, groups_of

__all__ = ["scatter_html", "scatter_png", "scatter_svg"]

# As many as a bench of seven families and its reals take.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F5B1B")
OTHERS = "#999999"
SIDE, GAP, TOP, EDGE, LINE = (
    380,
    18,
    52,
    14,
    18,
)  # pixels: a panel, between panels, the titles, the rim, a row
RADIUS = 3.4


def scatter_svg(embeddings: Sequence[Embedding], color: Color = "label", *, title: str = "") -> str:
    """Draw a panel a run with one legend, as SVG.

    Args:
        embeddings: The same faces, as several runs see them.
        color: What groups are.
        title: Above all; says what it is if empty.
    """
    names = groups_of(embeddings, color)
    width, height, across = _room(embeddings, names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" '
        f'fill="#fff"/><text x="{EDGE}" y="20" font-size="14" font-weight="600">'
        f"{escape(title or _title(embeddings, color))}</text>"
    ]
    for number, one in enumerate(embeddings):
        left = EDGE + number * (SIDE + GAP)
        parts.append(
            f'<text x="{left}" y="{TOP - 8}" font-weight="600">{escape(one.name)}</text><rect x="{left}" '
            f'y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#ccc"/>'
        )
        for row, (record, (x, y)) in enumerate(zip(one.records, _places(one, left), strict=True)):
            name = _known(group_of(record, color), names)
            paint, shape = _look(name, names)
            path = _path(shape, x, y, RADIUS)
            parts.append(
                f'<path d="{path}" fill="{paint}" fill-opacity=".75" data-run="{number}" data-row="{row}" '
                f'data-group="{names.index(name)}"/>'
            )
    for place, name in enumerate(names):
        x, y = _legend_at(place, across)
        paint, shape = _look(name, names)
        parts.append(
            f'<g data-legend="{place}"><path d="{_path(shape, x, y, 5)}" fill="{paint}"/>'
            f'<text x="{x + 10}" y="{y + 4}">{escape(_short(name))}</text></g>'
        )
    return "".join(parts) + "</svg>\n"


def scatter_html(embeddings: Sequence[Embedding], color: Color = "label", *, title: str = "") -> str:
    """Return a page with the same drawing: pointing at a face shows its row and marks it in every panel.

    A click on a name of the legend hides that group. Nothing is fetched; rows are inside the page, paths from
    the folder that all crops share.
    """
    rows = [one.rows() for one in embeddings]
    # Pages are passed on: where the crops lie on this machine is nobody's business.
    folder = os.path.commonpath([str(Path(row["path"]).parent) for run in rows for row in run])
    for row in (row for run in rows for row in run):
        row["path"] = row["path"].removeprefix(folder).lstrip(os.sep)
    # A path or a name may hold what would end the script early.
    data = json.dumps(rows, separators=(",", ":")).replace("<", "\\u003c")
    head = escape(title or _title(embeddings, color))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{head}</title><style>{_STYLE}</style>'
        f"{scatter_svg(embeddings, color, title=title)}"
        '<p id="row" aria-live="polite">Point at a face. Click a name of the legend to hide its group.</p>'
        f'<script type="application/json" id="rows">{data}</script><script>{_SCRIPT}</script></html>\n'
    )


def scatter_png(
    embeddings: Sequence[Embedding], color: Color = "label", *, title: str = "", scale: int = 2
) -> NDArray[np.uint8]:
    """Draw the same as a picture.

    Args:
        embeddings: See `scatter_svg`, as `color` and `title`.
        color: What groups are.
        title: Above all.
        scale: Pixels of the picture a pixel of the SVG.

    Shape:
        Result: (H, W, 3) uint8 RGB.
    """
    from PIL import Image, ImageColor, ImageDraw, ImageFont

    names = groups_of(embeddings, color)
    width, height, across = _room(embeddings, names)
    finer = 2 * scale  # drawn at twice the size and shrunk: Pillow's shapes have hard edges
    canvas = Image.new("RGB", (width * finer, height * finer), "white")
    draw = ImageDraw.Draw(canvas, "RGBA")
    font, bold = ImageFont.load_default(12 * finer), ImageFont.load_default(14 * finer)
    draw.text((EDGE * finer, 8 * finer), title or _title(embeddings, color), "#222", bold)

    def mark(name: str, x: float, y: float, radius: float, opacity: int) -> None:
        paint, shape = _look(name, names)
        corners = [(px * finer, py * finer) for px, py in _corners(shape, x, y, radius)]
        draw.polygon(corners, (*ImageColor.getrgb(paint)[:3], opacity))

    for number, one in enumerate(embeddings):
        left = EDGE + number * (SIDE + GAP)
        draw.text((left * finer, (TOP - 20) * finer), one.name, "#222", font)
        draw.rectangle(
            [left * finer, TOP * finer, (left + SIDE) * finer, (TOP + SIDE) * finer],
            outline="#cccccc",
            width=scale,
        )
        for record, (x, y) in zip(one.records, _places(one, left), strict=True):
            mark(_known(group_of(record, color), names), x, y, RADIUS, 190)
    for place, name in enumerate(names):
        x, y = _legend_at(place, across)
        mark(name, x, y, 5, 255)
        draw.text(((x + 10) * finer, (y - 7) * finer), _short(name), "#222", font)
    small = canvas.resize((width * scale, height * scale), Image.Resampling.LANCZOS)
    return np.asarray(small, np.uint8)


def _title(embeddings: Sequence[Embedding], color: Color) -> str:
    kind = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}[embeddings[0].kind]
    return f"{kind} of {len(embeddings[0].records)} faces by {'data set' if color == 'dataset' else color}"


def _room(embeddings: Sequence[Embedding], names: Sequence[str]) -> tuple[int, int, int]:
    """Return width and height of the drawing, and how many names stand in a row of the legend."""
    width = 2 * EDGE + len(embeddings) * (SIDE + GAP) - GAP
    across = max(1, (width - 2 * EDGE) // 130)
    return width, TOP + SIDE + 16 + LINE * -(-len(names) // across) + EDGE, across


def _places(one: Embedding, left: int) -> list[tuple[float, float]]:
    inner = SIDE - 4 * RADIUS
    start = np.array([left, TOP]) + 2 * RADIUS
    points = start + one.points * [1, -1] * inner + [0, inner]  # up is up
    return [(float(x), float(y)) for x, y in points]


def _legend_at(place: int, across: int) -> tuple[float, float]:
    row, column = divmod(place, across)
    return EDGE + 6 + 130 * column, TOP + SIDE + 22 + LINE * row


def _known(name: str, names: Sequence[str]) -> str:
    return name if name in names else "others"


def _short(name: str) -> str:
    return name if len(name) <= 17 else name[:16] + "…"


def _look(name: str, names: Sequence[str]) -> tuple[str, int]:
    """Return colour and number of corners; 0 is a circle."""
    if name == "others":
        return OTHERS, 0
    shape, paint = divmod(list(names).index(name), len(COLORS))
    return COLORS[paint], (0, 4, 3, 5)[shape % 4]


def _corners(shape: int, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    count = shape or 24
    turn = [2 * math.pi * (i / count) - math.pi / 2 for i in range(count)]
    grow = 1.25 if shape else 1.0  # so that all shapes look of one size
    return [(x + grow * radius * math.cos(t), y + grow * radius * math.sin(t)) for t in turn]


def _path(shape: int, x: float, y: float, radius: float) -> str:
    if not shape:
        return (
            f"M{x - radius:.1f} {y:.1f}a{radius:g} {radius:g} 0 1 0 {2 * radius:g} 0"
            f"a{radius:g} {radius:g} 0 1 0 {-2 * radius:g} 0z"
        )
    return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in _corners(shape, x, y, radius)) + "z"


_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:1em;color:#222}svg{max-width:100%;height:auto}"
    "path[data-row]{cursor:pointer}path.on{stroke:#000;stroke-width:2.5;fill-opacity:1}"
    "g[data-legend]{cursor:pointer}g.off{opacity:.3}#row{min-height:3em;overflow-wrap:anywhere}"
)
_SCRIPT = """
const rows = JSON.parse(document.getElementById("rows").textContent), line = document.getElementById("row");
const marks = [...document.querySelectorAll("path[data-row]")], of = {};
for (const mark of marks) {
  const row = rows[mark.dataset.run][mark.dataset.row];
  (of[row.path] ??= []).push(mark);
  mark.addEventListener("pointerenter", () => {
    document.querySelectorAll("path.on").forEach(other => other.classList.remove("on"));
    of[row.path].forEach(same => same.classList.add("on"));
    line.textContent = ["path", "label", "method", "dataset", "identity", "video", "frame", "score"]
      .filter(key => row[key] !== null && row[key] !== "").map(key => key + ": " + row[key]).join(" | ");
  });
}
for (const group of document.querySelectorAll("g[data-legend]"))
  group.addEventListener("click", () => {
    const off = group.classList.toggle("off");
    marks.filter(mark => mark.dataset.group === group.dataset.legend)
      .forEach(mark => { mark.style.display = off ? "none" : ""; });
  });
"""
