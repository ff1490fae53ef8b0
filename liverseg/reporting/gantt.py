"""A simulated race as a picture: one line a GPU, one bar a trainer, one colour a rung."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from liverseg.core.race.ledger import Bar

COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#888888")
WIDTH, LEFT, ROW, TOP, BOTTOM = 960, 64, 22, 56, 44
STEPS = 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000


def gantt(bars: Sequence[Bar], title: str) -> str:
    """Return an SVG; the same bars give the same text."""
    rows = 1 + max(bar.gpu for bar in bars)
    whole = max(bar.end for bar in bars)
    height = TOP + rows * ROW + BOTTOM
    scale = (WIDTH - LEFT - 16) / whole
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    rungs = sorted({bar.rung for bar in bars}, key=str)
    for number, rung in enumerate(rungs):
        left = LEFT + 84 * number
        parts.append(f'<rect x="{left}" y="28" width="12" height="12" fill="{_colour(rung)}"/>')
        parts.append(f'<text x="{left + 16}" y="38">rung {escape(str(rung))}</text>')
    for gpu in range(rows):
        y = TOP + gpu * ROW
        parts.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">GPU {gpu}</text>')
    for bar in bars:
        x, wide = LEFT + bar.start * scale, max(0.5, (bar.end - bar.start) * scale)
        y = TOP + bar.gpu * ROW
        parts.append(
            f'<rect x="{x:.1f}" y="{y + 2}" width="{wide:.1f}" height="{ROW - 4}" '
            f'fill="{_colour(bar.rung)}" stroke="white" stroke-width="0.5"/>'
        )
        if wide > 16:
            parts.append(
                f'<text x="{x + wide / 2:.1f}" y="{y + 15}" text-anchor="middle" fill="white">'
                f"{bar.seed}</text>"
            )
    base = TOP + rows * ROW
    # Round numbers of hours, at most a dozen.
    step = next((s for s in STEPS if whole / 3600 / s <= 12), STEPS[-1])
    for tick in range(int(whole / 3600 / step) + 1):
        x, hours = LEFT + tick * step * 3600 * scale, tick * step
        parts.append(f'<line x1="{x:.1f}" y1="{base}" x2="{x:.1f}" y2="{base + 5}" stroke="#444"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 18}" text-anchor="middle">{hours:g}</text>')
    parts.append(
        f'<text x="{WIDTH / 2}" y="{base + 36}" text-anchor="middle">hours; a bar is one trainer, '
        "its number the seed</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _colour(rung: int | str) -> str:
    return COLOURS[rung % len(COLOURS)] if isinstance(rung, int) else COLOURS[-1]
