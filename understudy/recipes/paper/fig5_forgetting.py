"""Fig. 5, right: what becomes of MMLU while a student is trained on GSM8K."""

from __future__ import annotations

from dataclasses import replace

from understudy.experiments.plan import Plan
from understudy.recipes import figures, tiny
from understudy.recipes.paper import fig1_gsm8k
from understudy.recipes.recipe import OURS, PAPER, Drawing, Lengths, Recipe, Scale, Setting
from understudy.report.comparison.summary import Summary

TASK = "gsm8k:max_new_tokens=2048,forget=mmlu"


def plan(scale: Scale) -> Plan:
    # MMLU's 14,042 questions are read by log-prob: one forward pass each
    return fig1_gsm8k.runs(
        scale, RECIPE.title, TASK, eval_splits="test,forget", eval_during="test,forget", eval_prompts=500,
        final_prompts=1319,
    )  # fmt: skip


def tiny_plan(scale: Scale) -> Plan:
    return tiny.forgetting(RECIPE.title, scale)


def draw(s: Summary) -> Drawing:
    panels = figures.over_training(s, "forget", "What was not trained")
    panels += figures.over_training(s, "test", "What was trained")
    panels += figures.finals(s, "forget", "What was not trained, at the end")
    claims = []
    for expert in s.experts:
        for arm in (figures.offline(s, expert), figures.online(s, expert)):
            if arm is not None:
                found = figures.claim("what each run forgets", f"{arm.name} on {expert} minus base, not trained",
                                      s.gain(arm, "forget"), -1)  # fmt: skip
                claims.append(replace(found, word="measured"))
        if not s.realizable(expert):
            gap = s.difference(figures.online(s, expert), figures.offline(s, expert), "forget")
            claims.append(
                figures.claim("online forgets less than offline, from an expert out of reach (our reading of the "
                              "caption)", f"OPD minus SFT on {expert}, not trained", gap, 1)
            )  # fmt: skip
    return Drawing(tuple(panels), tuple(claims), "Sampled accuracy; means over seeds with 95% intervals.")


RECIPE: Recipe = replace(
    fig1_gsm8k.RECIPE, name="fig5_forgetting", figure="Fig. 5 (right)", title="What is forgotten while imitating",
    shows="MMLU during GSM8K training. We know the caption only; that online imitation forgets less is our reading.",
    unknown="Not known to us: shots, how often MMLU is measured, and what the curves show. The runs are fig1_gsm8k's, "
    "with another evaluation.",
    settings=(
        Setting("forgetting", "MMLU, 5 shots, by log-prob of the letters", f"{PAPER}: MMLU; shots and reading "
        f"are {OURS}"),
        Setting("cadence", "500 questions every 20 updates, 1,319 at the end", OURS),
        *fig1_gsm8k.RECIPE.settings,
    ),
    lengths={**fig1_gsm8k.RECIPE.lengths, "mmlu": Lengths(700, 1)},
    stand_ins="A 2-layer model pre-trained on Countdown and then on two tasks at once: Countdown, and naming the class "
    "of a bit string (4 classes, one letter). It is then trained on Countdown alone, by imitation of its RL'd self and "
    "of a program that searches in secret.",
    plan=plan, tiny=tiny_plan, draw=draw,
)  # fmt: skip
