"""Draws a plot as SVG: lines over two axes, each linear or logarithmic.

A few dozen lines of our own, because that is all that the page needs: a plotting library would bring a dozen packages
into the lock file, and a picture that differs from run to run where the figures do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple
from xml.sax.saxutils import escape

from section import Plot, Series, shown

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 76, 190, 34, 52
COLOURS = ("#0b6e99", "#d1495b", "#3a7d44", "#edae49", "#6a4c93", "#6b705c", "#c05299", "#1d3557")
"""Told apart by most who do not see all colours, on white and on dark paper; marks differ, too."""
TICKS = 5
STEPS = (1, 2, 2.5, 5, 10)


class Axis(NamedTuple):
    """From values to pixels."""

    low: float
    high: float
    log: bool
    from_px: float
    to_px: float

    def at(self, value: float) -> float:
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self._least)))
        return self.from_px + (at - low) / (high - low) * (self.to_px - self.from_px)

    @property
    def _least(self) -> float:
        return self.low if self.log else -math.inf

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self.log:
            decades = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            return [10.0**decade for decade in decades]
        step = _round_step((self.high - self.low) / TICKS)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def svg(plot: Plot) -> str:
    """The picture. Lines of one colour belong together: what was measured has marks, its model is dashed."""
    plot = _drawable(plot)
    points = [point for one in plot.series for point in one.points]
    x = _axis([p[0] for p in points], plot.log_x, LEFT, WIDTH - RIGHT)
    y = _axis([p[1] for p in points], plot.log_y, HEIGHT - BOTTOM, TOP)
    body = [
        *_frame(plot, x, y),
        *(line for number, one in enumerate(_paired(plot.series)) for line in _lines(number, one, x, y)),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' font-family="sans-serif" font-size="12" role="img" aria-label="{escape(plot.title)}">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *body, "</svg>"]) + "\n"


def _drawable(plot: Plot) -> Plot:
    """Without the points that a logarithmic axis has no place for."""

    def fits(x: float, y: float) -> bool:
        return (x > 0 or not plot.log_x) and (y > 0 or not plot.log_y)

    kept = (Series(one.name, tuple(point for point in one.points if fits(*point)), one.model) for one in plot.series)
    return Plot(plot.name, plot.title, plot.x, plot.y, tuple(one for one in kept if one.points), plot.log_x, plot.log_y)


def _paired(found: tuple[Series, ...]) -> list[list[Series]]:
    """Series by name, so that a measured line and its model share a colour."""
    names: dict[str, list[Series]] = {}
    for one in found:
        names.setdefault(one.name, []).append(one)
    return list(names.values())


def _axis(values: list[float], log: bool, from_px: float, to_px: float) -> Axis:
    low, high = min(values), max(values)
    if log:
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        return Axis(low, high if high > low else 10 * low, True, from_px, to_px)
    low, high = min(0.0, low), high if high > 0 else 1.0
    step = _round_step((high - low) / TICKS)
    return Axis(low, math.ceil(high / step) * step, False, from_px, to_px)


def _round_step(rough: float) -> float:
    decade = 10.0 ** math.floor(math.log10(rough))
    return next(step * decade for step in STEPS if step * decade >= rough * (1 - 1e-9))


def _frame(plot: Plot, x: Axis, y: Axis) -> Iterator[str]:
    """Grid, ticks and captions."""
    yield f'<text x="{LEFT}" y="20" font-weight="bold">{escape(plot.title)}</text>'
    for value in y.ticks():
        at = y.at(value)
        yield f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{shown(value)}</text>'
    for value in x.ticks():
        at = x.at(value)
        yield f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#eeeeee"/>'
        yield f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{shown(value)}</text>'
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text x="{middle_x:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(plot.x)}</text>'
    turned = f'transform="rotate(-90 16 {middle_y:.0f})"'
    yield f'<text x="16" y="{middle_y:.0f}" text-anchor="middle" {turned}>{escape(plot.y)}</text>'


def _lines(number: int, together: list[Series], x: Axis, y: Axis) -> Iterator[str]:
    colour, legend_y = COLOURS[number % len(COLOURS)], TOP + 8 + 20 * number
    for one in together:
        path = " ".join(f"{x.at(px):.1f},{y.at(py):.1f}" for px, py in one.points)
        dashes = ' stroke-dasharray="5 4"' if one.model else ""
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}/>'
        if not one.model:
            for px, py in one.points:
                yield _mark(number, x.at(px), y.at(py), colour)
    yield _mark(number, WIDTH - RIGHT + 18, legend_y - 4, colour)
    yield f'<text x="{WIDTH - RIGHT + 30}" y="{legend_y}">{escape(together[0].name)}</text>'


def _mark(number: int, at_x: float, at_y: float, colour: str) -> str:
    if number % 2:
        return f'<rect x="{at_x - 3:.1f}" y="{at_y - 3:.1f}" width="6" height="6" fill="{colour}"/>'
    return f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="3.4" fill="{colour}"/>'
