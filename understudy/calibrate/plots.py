"""The reliability plot: claimed probability against how often it was so. A standalone SVG file."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.calibrate.metrics import Score
from understudy.report.figures.svg import FAINT, HAIR, INK, axes, drawing, figure, to_svg

COLOURS = ("#1f5fa8", "#c4501b", "#2e7d6b")


def reliability(scores: Mapping[str, Score], name: str = "reliability") -> str:
    """One line a score; the area of a dot is the number of probabilities in it. On the diagonal: as claimed."""
    with drawing():
        fig = figure(420, 400)
        ax = axes(fig, 56, 16, 20, 50)
        ax.plot([0, 1], [0, 1], color=FAINT, lw=1.2, ls=(0, (3, 3)))
        ax.grid(color=HAIR, lw=1)
        for (label, found), hue in zip(scores.items(), COLOURS):
            most = max(b.n for b in found.bins)
            x, y = [b.claimed for b in found.bins], [b.happened for b in found.bins]
            ax.plot(x, y, color=hue, lw=1.6)
            ax.scatter(x, y, s=[20 + 160 * b.n / most for b in found.bins], color=hue, zorder=3)
            if len(scores) > 1:
                ax.annotate(label, (x[-1], y[-1]), (-8, 8), textcoords="offset points", color=hue, ha="right")
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(-0.02, 1.02)
        ax.set_xlabel("probability that a verdict gave to an answer", color=INK)
        ax.set_ylabel("how often it was the outcome", color=INK)
        told = "; ".join(
            f"{k}: " + ", ".join(f"claimed {b.claimed:.2f} happened {b.happened:.2f}" for b in s.bins)
            for k, s in scores.items()
        )
        svg = str(to_svg(fig, name, f"Reliability. {told}"))
    # a file of its own needs the name space, and a face: the page that inlines it has both
    opening = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" width="525" height="500"'
    return svg.replace("<svg", opening, 1) + "\n"
