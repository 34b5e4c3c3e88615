"""Plain charts as inline SVG: no script, no font and no picture from elsewhere; they print in black and white."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH = 640
STEPS = (1, 2, 5, 10, 15, 25, 50, 75, 100)  # between the numbers of an axis
GREY, DARK, RED, BAND = "#767676", "#1a4f7a", "#b3261e", "#dcefdc"


def interval_chart(rows: Sequence[tuple[str, float, float, float]], target: float, target_label: str) -> str:
    """Points with their intervals, one row each.

    Args:
        rows: label, value, low and high.
        target: shown as a line.
        target_label: its text.
    """
    needed = max([1.25 * target, *(1.1 * high for _, _, _, high in rows)]) / 4
    step = next((step for step in STEPS if step >= needed), needed)
    top = 4 * step
    left, height = 190, 34 * len(rows) + 40

    def x(value: float) -> float:
        return left + (WIDTH - left - 60) * min(value, top) / top

    parts = [_line(x(target), 18, x(target), height - 18, RED, dash=True), _text(x(target), 12, target_label, RED)]
    for number, (label, value, low, high) in enumerate(rows):
        y = 40 + 34 * number
        parts += [
            _text(left - 10, y + 5, label, "#000", anchor="end"),
            _line(x(low), y, x(high), y, DARK, width=3),
            f'<circle cx="{x(value):.1f}" cy="{y}" r="6" fill="{DARK}"/>',
            _text(x(high) + 10, y + 5, f"{value:.1f}", "#000", anchor="start"),
        ]
    parts.append(_line(left, height - 18, WIDTH - 60, height - 18, GREY))
    parts += [_text(x(step * number), height - 4, f"{step * number:g}", GREY) for number in range(5)]
    return _svg(height, parts)


def level_chart(levels: Sequence[tuple[float, float]], low_db: float, high_db: float, lowest_db: float = -80.0) -> str:
    """Speech and noise of each recording as a vertical line from noise to speech, and the band of good levels.

    Args:
        levels: (speech, noise) in dB of full scale.
        low_db, high_db: of the band.
        lowest_db: at the bottom.
    """
    height, left = 220, 46

    def y(value: float) -> float:
        return 10 + (height - 30) * min(1.0, max(0.0, value / lowest_db))

    parts = [
        f'<rect x="{left}" y="{y(high_db):.1f}" width="{WIDTH - left - 10}" height="{y(low_db) - y(high_db):.1f}" '
        f'fill="{BAND}"/>'
    ]
    for level in range(0, int(lowest_db) - 1, -20):
        parts += [_text(left - 6, y(level) + 4, f"{level}", GREY, anchor="end")]
        parts += [_line(left, y(level), WIDTH - 10, y(level), "#ddd")]
    for number, (speech, noise) in enumerate(levels):
        x = left + 8 + (WIDTH - left - 26) * (number + 0.5) / len(levels)
        color = DARK if low_db <= speech <= high_db else RED
        parts += [_line(x, y(noise), x, y(speech), GREY, width=1)]
        parts += [f'<circle cx="{x:.1f}" cy="{y(speech):.1f}" r="3.5" fill="{color}"/>']
        parts += [_line(x - 3, y(noise), x + 3, y(noise), GREY, width=2)]
    return _svg(height, parts)


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str, *, width: int = 1, dash: bool = False) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    dashes = ' stroke-dasharray="5 4"' if dash else ""
    return f'<line {ends} stroke="{color}" stroke-width="{width}"{dashes}/>'


def _text(x: float, y: float, text: str, color: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" font-size="13" text-anchor="{anchor}">{escape(text)}</text>'
