"""Which figure belongs to which claim: claim -> its panels as inline SVG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.text import Text

from understudy.report.figures.svg import drawing, to_svg
from understudy.theory.page import plots_offline, plots_reward, plots_routes
from understudy.theory.page.typeset import greek

FIGURES: dict[str, Callable[[dict[str, Any]], list[Figure]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        plots_offline.realizable, plots_offline.constant, plots_offline.scores, plots_offline.bottleneck,
        plots_offline.rate, plots_offline.baseline, plots_offline.trap, plots_offline.gaussian,
        plots_reward.figure3, plots_reward.benign, plots_reward.asymmetry, plots_reward.gradient,
        plots_reward.base_policy, plots_reward.horizon, plots_reward.falsifiers, plots_reward.rows,
        plots_routes.route, plots_routes.warm_start, plots_routes.false_alarm, plots_routes.confirmation,
    )
}  # fmt: skip


def panels(claim: str, data: dict[str, Any], alt: str) -> list[Markup]:
    """The panels of a claim's figure. Plain-text Greek in them ('eps') becomes letters."""
    drawn = []
    with drawing():
        for i, figure in enumerate(FIGURES[claim](data)):
            for text in figure.findobj(Text):
                text.set_text(greek(text.get_text()))
            drawn.append(to_svg(figure, f"fig-{claim}-{i}", alt))
    return drawn
