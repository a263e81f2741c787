"""Fig. 1, the third task, with a DeepSeek-R1-Distill student: public checkpoints as both experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from understudy.experiments.plan import Plan
from understudy.recipes import public_tiny, real
from understudy.recipes.paper import fig1_countdown, fig6_two_experts
from understudy.recipes.recipe import OURS, PAPER, PUBLIC, Lengths, Recipe, Scale, Setting, plan_of

DEEPSCALER = "agentica-org/DeepScaleR-1.5B-Preview"
RL, BIG = "DeepScaleR-1.5B", "R1-Distill-7B"
EXPERTS: Mapping[str, Mapping[str, Any]] = {
    RL: {"mechanism": "The student's own checkpoint after RL with verifiable rewards, by others: realizable by "
    "construction.",
         "realizable": True, "expect": "none"},
    BIG: {"mechanism": "A larger model distilled from the same teacher: whether 1.5B can represent it is not known.",
          "realizable": None, "expect": "better"},
}  # fmt: skip


def plan(scale: Scale) -> Plan:
    look = fig6_two_experts.EVALUATION | {"eval_expert": True}
    runs = []
    for label, expert in ((RL, DEEPSCALER), (BIG, real.R1_7B)):
        runs += real.runs(
            scale, label, student=scale.model(real.R1_STUDENT), expert=scale.model(expert), task=fig6_two_experts.TASK,
            updates=200, eval_every=50, methods={"sft": {"lr": 1e-5}, "opd_full": {"lr": 1e-6}}, prompts_per_update=64,
            **look,
        )  # fmt: skip
    return plan_of(RECIPE.title, scale.out, runs, EXPERTS, ())


def tiny_plan(scale: Scale) -> Plan:
    return public_tiny.two_public(RECIPE.title, scale)


RECIPE: Recipe = replace(
    fig1_countdown.RECIPE, name="fig1_r1distill", figure="Fig. 1 (third task)",
    title="R1-Distill: offline matches an expert in reach, not one out of reach",
    unknown="Not known to us: the task, which R1-Distill model it is, and both experts.",
    settings=(
        Setting("student", real.R1_STUDENT, f"{PAPER}: a DeepSeek-R1-Distill model; which is {OURS}"),
        Setting("realizable expert", f"{DEEPSCALER}: the student after public RL", OURS),
        Setting("non-realizable expert", real.R1_7B, OURS),
        Setting("training prompts", "DAPO-Math-17k", f"{OURS}, as in Fig. 6"),
        Setting("imitation", "200 updates of 64 prompts, one completion each, at most 7,168 tokens", OURS),
        Setting("evaluation", "AIME 2024 and 2025, 16 samples, T = 0.7, top-p 0.95", PUBLIC),
        real.ONLINE_METHOD, *real.OPTIMIZER, real.RUNS,
    ),
    lengths={"dapo": Lengths(150, 5000)},
    stand_ins="Sums of small numbers as rows in the schemas of OpenR1, DAPO-Math-17k and GSM8K, written by the recipe; "
    "2-layer models of 64 and 128 dimensions that read bytes. What they reach says nothing about the paper.",
    plan=plan, tiny=tiny_plan,
)  # fmt: skip
