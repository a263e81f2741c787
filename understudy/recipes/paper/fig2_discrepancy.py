"""Fig. 2: how different expert and student look, in lengths and words, from two files of completions alone."""

from __future__ import annotations

from understudy.recipes.recipe import OURS, PAPER, Lengths, Recipe, Setting

EXPERT, STUDENT = "deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B"
KEYWORDS = ("wait", "but", "alternatively", "hmm", "let me", "check", "therefore", "so", "maybe", "boxed")
PROBLEMS, SAMPLES = 60, 16

RECIPE = Recipe(
    "fig2_discrepancy", "Fig. 2", "How far apart expert and student look",
    "Expert and student differ widely in response lengths and keyword frequencies on AIME; either gives a lower bound "
    "on total variation, so bounding the performance gap by the discrepancy is far too pessimistic.",
    "Not known to us: the keywords and the binning.",
    (
        Setting("models", f"{EXPERT} (expert), {STUDENT} (student)", PAPER),
        Setting("problems", "AIME 2024 and 2025, 60 problems x 16 samples of each model", f"{PAPER}: AIME; "
        f"samples {OURS}"),
        Setting("sampling", "T = 0.6, top-p 0.95, at most 32,768 tokens", OURS),
        Setting("keywords", ", ".join(KEYWORDS), OURS),
        Setting("bins", "8 quantiles of the half of the prompts that chooses the witness", OURS),
    ),
    {"aime24": Lengths(150, 20_000)},
    "Two files of Countdown completions by two programs, a mediocre solver and one that searches in secret.",
)  # fmt: skip
