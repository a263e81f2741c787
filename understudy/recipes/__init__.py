"""The paper's experiments as recipes: `understudy run RECIPE`.

They are part of the package, so that an installed command finds them. A user's recipe is a Python file that defines
RECIPE.
"""

NAMES = (
    "fig1_countdown", "fig1_gsm8k", "fig1_r1distill", "fig2_discrepancy", "fig5_ood", "fig5_forgetting",
    "fig6_two_experts",
)  # fmt: skip
LOCAL = ("smollm2_arithmetic",)
"""Recipes of ours that run on this machine's CPU."""
