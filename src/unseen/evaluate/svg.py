"""Small multiples as SVG, by hand: no plotting library is needed to evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Point", "panels"]

WIDTH, HEIGHT, LEFT, TOP = 190, 130, 44, 30  # of a panel's field, and the room around it, in pixels
GAP_X, GAP_Y = 22, 44
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#222}.t{font-weight:600}.a{fill:#666}"
    ".g{stroke:#ddd}.b{stroke:#888;stroke-dasharray:4 3}.l{stroke:#2f5fb3;stroke-width:2;fill:none}"
    ".w{stroke:#2f5fb3;stroke-width:1}.p{fill:#2f5fb3}.n{fill:#999}"
)


@dataclass(frozen=True)
class Point:
    """A value with its interval (None draws no whisker), and a small note above it if there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def panels(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    x: tuple[float, float],
    y: tuple[float, float],
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    baseline: float | None = None,
    diagonal: bool = False,
    columns: int = 4,
) -> str:
    """Draw a panel a series, all with the same axes.

    Args:
        series: Name to points, in the order of x; a point that is not a number is left out.
        title: Above all.
        x: Range of the horizontal axis.
        y: Range of the vertical axis; what lies outside is drawn at its edge.
        x_ticks: Where the horizontal axis is labelled.
        y_ticks: Where the vertical axis is labelled.
        x_label: Below each panel.
        baseline: A dashed horizontal line.
        diagonal: A dashed line from corner to corner.
        columns: Panels in a row.
    """
    columns = max(1, min(columns, len(series)))
    rows = -(-len(series) // columns)
    # Letters of the title are about 8 pixels wide: one panel alone is narrower than most titles.
    width = max(14 + columns * (LEFT + WIDTH + GAP_X), 28 + 8 * len(title))
    height = 26 + rows * (TOP + HEIGHT + GAP_Y)
    body = [f'<text class="t" x="14" y="18" style="font-size:13px">{escape(title)}</text>']
    for place, (name, points) in enumerate(series.items()):
        row, column = divmod(place, columns)
        x0 = LEFT + column * (LEFT + WIDTH + GAP_X)
        y0 = 26 + TOP + row * (TOP + HEIGHT + GAP_Y)
        field = _Field(x0, y0, x, y)
        body += [f'<text class="t" x="{x0}" y="{y0 - 8}">{escape(name)}</text>']
        body += [
            f'<line class="g" x1="{x0}" x2="{x0 + WIDTH}" y1="{field.y(t):.1f}" y2="{field.y(t):.1f}"/>'
            f'<text class="a" x="{x0 - 5}" y="{field.y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
            for t in y_ticks
        ]
        body += [
            f'<text class="a" x="{field.x(t):.1f}" y="{y0 + HEIGHT + 14}" text-anchor="middle">{t:g}</text>'
            for t in x_ticks
        ]
        middle, under = x0 + WIDTH / 2, y0 + HEIGHT + 28
        body.append(f'<text class="a" x="{middle}" y="{under}" text-anchor="middle">{escape(x_label)}</text>')
        if baseline is not None:
            at = f"{field.y(baseline):.1f}"
            body.append(f'<line class="b" x1="{x0}" x2="{x0 + WIDTH}" y1="{at}" y2="{at}"/>')
        if diagonal:
            body.append(f'<line class="b" x1="{x0}" y1="{y0 + HEIGHT}" x2="{x0 + WIDTH}" y2="{y0}"/>')
        body += field.draw([point for point in points if point.y == point.y])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(body)}</svg>\n'
    )


@dataclass(frozen=True)
class _Field:
    """A panel's axes: from values to pixels."""

    left: float
    top: float
    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.across
        return self.left + WIDTH * (min(max(value, low), high) - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.up
        return self.top + HEIGHT * (1 - (min(max(value, low), high) - low) / (high - low))

    def draw(self, points: Sequence[Point]) -> list[str]:
        line = " ".join(f"{self.x(p.x):.1f},{self.y(p.y):.1f}" for p in points)
        drawn = [f'<polyline class="l" points="{line}"/>'] if points else []
        for p in points:
            at = f"{self.x(p.x):.1f}"
            if p.low is not None and p.high is not None and p.low == p.low:
                ends = f'y1="{self.y(p.low):.1f}" y2="{self.y(p.high):.1f}"'
                drawn.append(f'<line class="w" x1="{at}" x2="{at}" {ends}/>')
            drawn.append(f'<circle class="p" cx="{at}" cy="{self.y(p.y):.1f}" r="3"/>')
            if p.note:
                drawn.append(
                    f'<text class="n" x="{at}" y="{self.y(p.y) - 7:.1f}" text-anchor="middle" '
                    f'style="font-size:8px">{escape(p.note)}</text>'
                )
        return drawn
