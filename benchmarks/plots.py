"""Plots as SVG: lines over two axes in powers of ten, readable on a light and on a dark page. Knows no benchmark."""

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 616, 44, 296
LEGEND = 344
COLOURS = ("#3b7dd8", "#d9730d", "#2f9e60", "#a857c9", "#c2384d")  # each at least 3:1 on white and on near-black
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-size: 14px; font-weight: 600; fill: #24292f }
  .grid { stroke: #8c959f; stroke-opacity: .3 }
  polyline { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) { text { fill: #9da7b3 } .title { fill: #e6edf3 } }
"""


class Axis:
    """Whole powers of ten around the values, over a stretch of the picture."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        self._lowest = math.floor(math.log10(min(values)))
        self._highest = max(math.ceil(math.log10(max(values))), self._lowest + 1)
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self._lowest) / (self._highest - self._lowest)
        return round(self._begin + share * (self._end - self._begin), 1)

    def ticks(self) -> Iterator[float]:
        return (10.0**power for power in range(self._lowest, self._highest + 1))


def svg(title: str, x_title: str, lines: Mapping[str, Points]) -> str:
    """One picture. Values at or below 0 have no place on it and are left out."""
    kept = {name: [(x, y) for x, y in points if x > 0 and y > 0] for name, points in lines.items()}
    points = [point for each in kept.values() for point in each]
    if not points:
        points = [(1.0, 1.0)]
    x, y = Axis([each[0] for each in points], LEFT, RIGHT), Axis([each[1] for each in points], BOTTOM, TOP)
    body = [f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>', *_grid(x, y, x_title)]
    for number, (name, line) in enumerate(kept.items()):
        body += _line(name, [(x(a), y(b)) for a, b in line], COLOURS[number % len(COLOURS)])
    body += _legend(list(kept))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *body, "</svg>", ""])


def _grid(x: Axis, y: Axis, x_title: str) -> Iterator[str]:
    for value in x.ticks():
        yield f'<line class="grid" x1="{x(value)}" x2="{x(value)}" y1="{TOP}" y2="{BOTTOM}"/>'
        yield f'<text x="{x(value)}" y="{BOTTOM + 18}" text-anchor="middle">{_tick(value)}</text>'
    for value in y.ticks():
        yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y(value)}" y2="{y(value)}"/>'
        yield f'<text x="{LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{_tick(value)}</text>'
    yield f'<text x="{RIGHT}" y="{BOTTOM + 36}" text-anchor="end">{escape(x_title)}</text>'


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _line(name: str, points: Points, colour: str) -> Iterator[str]:
    yield f'<polyline stroke="{colour}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>'
    for x, y in points:
        yield f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"><title>{escape(name)}</title></circle>'


def _legend(names: Sequence[str]) -> Iterator[str]:
    if len(names) == 1:
        return
    step = (RIGHT - LEFT) / max(len(names), 3)
    for number, name in enumerate(names):
        x = LEFT + number * step
        yield f'<circle cx="{x + 4:.0f}" cy="{LEGEND - 4}" r="4" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield f'<text x="{x + 14:.0f}" y="{LEGEND}">{escape(name)}</text>'
