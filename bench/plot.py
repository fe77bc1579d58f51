"""Curves under each other as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, GAP = 840, 130, 70, 20, 50, 55
MOST_POINTS = 600


@dataclass(frozen=True)
class Curve:
    """Values over time; the axis begins at 0."""

    name: str
    at_s: Sequence[float]
    values: Sequence[float]


def draw(path: Path, title: str, curves: Sequence[Curve]) -> None:
    """Write the curves, each with its own axis, over the same minutes."""
    height = TOP + len(curves) * (HEIGHT + GAP)
    box = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>',
    ]
    for number, curve in enumerate(curves):
        parts += _curve(curve, TOP + number * (HEIGHT + GAP))
    path.write_text("\n".join([*parts, "</svg>", ""]), "utf-8")


def _curve(curve: Curve, top: int) -> list[str]:
    most, last_s = max(*curve.values, 1e-9) * 1.1, curve.at_s[-1] or 1.0
    width, bottom = WIDTH - LEFT - RIGHT, top + HEIGHT
    step = max(1, len(curve.values) // MOST_POINTS)
    points = " ".join(
        f"{LEFT + at_s / last_s * width:.1f},{bottom - value / most * HEIGHT:.1f}"
        for at_s, value in zip(curve.at_s[::step], curve.values[::step], strict=True)
    )
    return [
        f'<text x="{LEFT}" y="{top - 6}">{escape(curve.name)}</text>',
        f'<path d="M{LEFT},{top} V{bottom} H{WIDTH - RIGHT}" fill="none" stroke="#888"/>',
        f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{most:.3g}</text>',
        f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{WIDTH - RIGHT}" y="{bottom + 16}" text-anchor="end">{last_s / 60:.1f} min</text>',
        f'<polyline points="{points}" fill="none" stroke="#1f5fa8" stroke-width="1.3"/>',
    ]
