"""Later scenarios for the bank: three more tasks, larger students, strong and weak ones, long texts, mixtures."""

from __future__ import annotations

from dataclasses import replace

from understudy.calibrate.models import (
    ARMS,
    CHAIN,
    DIGITS,
    FIVE,
    FOUR,
    LETTERS,
    MIXED,
    MIXED_CHAIN,
    PATH,
    REACH,
    SHORT_CHAIN,
    SORT,
    SUMS,
    TWELVE,
)
from understudy.calibrate.scenario import Scenario

# Whatever is chosen with the bank is chosen on these; the recipes of their bases were tried until the bases could do
# some of the problems and not all.
_SET = (
    Scenario("sort-rl", "sorting, realizable", SORT, "sort", "@sort-rl",
         "The expert is the student's own base after GRPO; nothing of the task is hidden."),
    Scenario("sort-styled", "sorting, irrelevant style", SORT, "sort", "styled",
         "An expert in the student's reach behind a secret first line that the reward ignores."),
    Scenario("sort-weak", "sorting, weak student, an expert that errs and recovers", SORT, "sort-early", "checker",
         "A base that was trained briefly; half of the expert's completions show a mistake that is taken back."),
    Scenario("sort-big", "sorting, large student, secret noise", SORT, "sort-big", "secret:p_right=0.7",
         "1.3 million parameters; on three prompts in ten the expert slips, which no student can know.",
         updates=120, seconds=180),
    Scenario("path-search", "a path, hidden search with recovery", PATH, "path", "solver",
         "The expert knows the arm before its first step, and walks back out of the student's wrong one."),
    Scenario("path-careless", "a path, hidden search without recovery", PATH, "path", "careless:p_right=0.9",
         "The expert knows the arm, and walks on to the end of the student's wrong one."),
    Scenario("path-strong", "a path, strong student, worse expert", PATH, "path-rl", "half:p_right=0.7",
         "A student that RL has made good meets an expert that takes the wrong arm three times in ten."),
    Scenario("chain-long", "a chain of ten steps, long completions", CHAIN, "chain", "solver",
         "Sixty tokens, each line from the one before; one wrong digit is enough to fail.", updates=150, seconds=150),
    Scenario("chain-lure", "a chain of three steps, likeliest text wrong", SHORT_CHAIN, "chain-short", "lure",
         "In the first line the digit above the right one is likelier than the right one; the mistake is carried on."),
    Scenario("mixture", "a mixture of two tasks", f"{MIXED},share=0.3", "mixed", "solver",
         "Three prompts in ten are another task, answered by another expert: one must not undo the other."),
)  # fmt: skip
# These only score. They were written down before any of them, or any of their bases, was run.
_SCORE = (
    Scenario("digits-lure", "sorting digits, weak student, likeliest text wrong", DIGITS, "digits", "lure:p_right=0.45",
         "A briefly trained base; the first digit that the expert is likeliest to write is not the smallest."),
    Scenario("letters-rl", "sorting letters, realizable", LETTERS, "letters", "@letters-rl",
         "Twenty-six letters; the expert is the student's own base after GRPO."),
    Scenario("letters-secret", "sorting letters, secret noise", LETTERS, "letters", "secret:p_right=0.55",
         "On nearly half of the prompts the expert slips, which no student can know."),
    Scenario("arms-search", "a path in a larger star, an expert that errs and recovers", ARMS, "arms",
         "solver:p_right=0.6",
         "Three arms; four of ten completions of the expert try a wrong one first, so its samples show the way back."),
    Scenario("reach-strong", "a longer path, strong student, hidden search", REACH, "reach-rl", "solver",
         "A student that RL has made good meets an expert that knows the arm and walks back out of a wrong one."),
    Scenario("twelve-styled", "a chain of twelve steps, irrelevant style, long completions", TWELVE, "twelve", "styled",
         "Seventy tokens step by step behind a secret first line.", updates=150, seconds=170),
    Scenario("chain-big", "a chain, large student, an expert often wrong", FIVE, "chain-big", "half:p_right=0.7",
         "1.3 million parameters; three of ten completions of the expert have a mistake that is carried on.",
         updates=120, seconds=200),
    Scenario("sums-hidden", "a sum of three numbers out of sight", SUMS, "sums", "solver:p_right=0.9",
         "One digit, computed before anything is written; the expert sometimes errs and takes it back."),
    Scenario("four-strong", "longer chains, strong student, hidden search", FOUR, "four-rl", "solver:p_right=0.9",
         "Four numbers; a student that RL has made good meets hidden search that seldom errs.", seconds=80),
    Scenario("mixture-chain", "a mixture of steps and labels, an expert that overlooks errors",
         f"{MIXED_CHAIN},share=0.4", "mixed-chain", "careless:p_right=0.8",
         "Four prompts in ten are another task; on the others the expert carries every mistake on."),
)  # fmt: skip

SCENARIOS: dict[str, Scenario] = {
    s.name: replace(s, set=name, first_seed=seed)
    for name, seed, group in (("set", 700, _SET), ("score", 800, _SCORE))
    for s in group
}
