"""Which figure belongs to which claim: claim -> the function that draws its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from understudy.theory.page import plots_offline, plots_reward

FIGURES: dict[str, Callable[[dict[str, Any]], Figure]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        plots_offline.realizable, plots_offline.constant, plots_offline.scores, plots_offline.bottleneck,
        plots_offline.rate, plots_offline.baseline, plots_offline.trap, plots_offline.gaussian,
        plots_reward.figure3, plots_reward.benign, plots_reward.asymmetry, plots_reward.gradient,
        plots_reward.base_policy, plots_reward.horizon, plots_reward.falsifiers, plots_reward.rows,
    )
}  # fmt: skip
