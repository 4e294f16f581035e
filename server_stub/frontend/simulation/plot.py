"""Plots of a simulation: three charts over time as SVG, and the same in a line each for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from server_stub.frontend.simulation.figures import Figures, series
from server_stub.frontend.simulation.run import Moment

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 180, 70, 40, 50
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")
CHARTS: Mapping[str, tuple[str, ...]] = {
    "jobs": ("jobs_waiting", "jobs_running"),
    "pilots": ("pilots_queued", "pilots_starting", "pilots_busy", "pilots_idle"),
    "requests": ("requested", "new"),
}
BLOCKS = " ▁▂▃▄▅▆▇█"
COLUMNS = 60
MOST_POINTS = 800


def svg(moments: Sequence[Moment], told: Figures, title: str) -> str:
    """A picture of all charts; nothing in it is loaded from elsewhere."""
    columns = series(moments)
    height = TOP + len(CHARTS) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 30} {height}">',
        "<style>text { font: 12px sans-serif }</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22">{escape(title)}: {escape(summary(told))}</text>',
    ]
    for number, (name, lines) in enumerate(CHARTS.items()):
        top = TOP + number * (HEIGHT + GAP)
        parts += _chart(name, {line: columns[line] for line in lines}, told.seconds, top)
    return "\n".join([*parts, "</svg>", ""])


def _chart(name: str, lines: Mapping[str, list[float]], seconds: float, top: int) -> list[str]:
    most = max([1.0, *(max(values, default=0.0) for values in lines.values())])
    bottom = top + HEIGHT
    parts = [
        f'<path d="M{LEFT} {top}V{bottom}H{LEFT + WIDTH}" fill="none" stroke="#57606a"/>',
        f'<text x="{LEFT - 8}" y="{top + 10}" text-anchor="end">{most:g}</text>',
        f'<text x="{LEFT - 8}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{LEFT + WIDTH}" y="{bottom + 16}" text-anchor="end">{seconds / 3600:.1f} h</text>',
        f'<text x="{LEFT}" y="{bottom + 16}">{escape(name)}</text>',
    ]
    for number, (line, values) in enumerate(lines.items()):
        colour = COLOURS[number]
        kept = _thinned(values, MOST_POINTS)
        step = WIDTH / max(len(kept) - 1, 1)
        points = " ".join(
            f"{LEFT + step * place:.1f},{bottom - HEIGHT * value / most:.1f}" for place, value in enumerate(kept)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        legend = LEFT + 80 + number * 150
        parts.append(f'<text x="{legend}" y="{bottom + 16}" fill="{colour}">{escape(line.replace("_", " "))}</text>')
    return parts


def text(moments: Sequence[Moment], told: Figures) -> str:
    """The same for a terminal: a line of blocks for each series with its largest value, and the figures."""
    lines = []
    for name, values in series(moments).items():
        most = max(values, default=0.0)
        kept = _thinned(values, COLUMNS)
        blocks = "".join(BLOCKS[round(value / most * (len(BLOCKS) - 1))] if most else " " for value in kept)
        lines.append(f"{name.replace('_', ' '):<16} {blocks:<{COLUMNS}} {most:g}")
    waste = told.waste
    paid = max(told.paid, 1.0)
    lines += [
        "",
        summary(told),
        f"of {told.paid / 3600:.1f} core hours paid:",
        f"  {told.useful / paid:.1%} in jobs that ended well",
        f"  {waste.starting / paid:.1%} in pilots starting",
        f"  {waste.idle / paid:.1%} in cores without a job",
        f"  {waste.lost_jobs / paid:.1%} in jobs that failed or were lost",
    ]
    return "\n".join(lines) + "\n"


def summary(told: Figures) -> str:
    """One sentence."""
    return (
        f"{told.jobs_done} of {told.jobs} jobs in {told.seconds / 3600:.1f} h with {told.pilots} pilots, "
        f"{told.over_oracle:.1%} over an oracle, longest wait {told.longest_wait / 60:.0f} min"
    )


def _thinned(values: Sequence[float], most: int) -> list[float]:
    """The largest value of each of so many parts, so that no peak is lost."""
    if len(values) <= most:
        return list(values)
    size = len(values) / most
    return [max(values[int(part * size) : max(int((part + 1) * size), int(part * size) + 1)]) for part in range(most)]
