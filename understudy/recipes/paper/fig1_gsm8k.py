"""Fig. 1, GSM8K: a Llama fine-tuned on OpenR1, its RL'd self and a larger one as experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from understudy.experiments.plan import Plan
from understudy.recipes import public_tiny, real
from understudy.recipes.paper import fig1_countdown
from understudy.recipes.recipe import OURS, PAPER, Lengths, Recipe, Scale, Setting, plan_of

STUDENT, LARGER = "meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.1-8B"
WARM = "openr1:traces=true,test=gsm8k,max_new_tokens=4096"
TASK = "gsm8k:max_new_tokens=2048"
RL, BIG = "RL of the base", "8B after RL"
EVALUATION = {"eval_prompts": 200, "final_prompts": 1319, "final_samples": 4, "eval_splits": "test"}
EXPERTS: Mapping[str, Mapping[str, Any]] = {
    RL: {"mechanism": "The student itself (after its warm-up) after GRPO: realizable by construction.",
         "realizable": True, "expect": "none"},
    BIG: {"mechanism": "A larger model of the family after the same warm-up and GRPO: whether 3B can represent it is "
    "not known; the paper calls such experts non-realizable.", "realizable": None, "expect": "better"},
}  # fmt: skip


def runs(scale: Scale, title: str, task: str, **evaluation: object) -> Plan:
    """Warm-up of both sizes, RL of both, then SFT and OPD of the small one on each."""
    look = EVALUATION | evaluation
    before, warm = [], []
    for model in (STUDENT, LARGER):
        short = model.split("/")[-1]
        first = real.job(
            scale, f"warm-up: {short}", (), task=WARM, folder=scale.out / f"warm-{short}", updates=3064, method="sft",
            student=scale.model(model), expert="recorded", lr=1e-5, prompts_per_update=64, prompt_pool=0,
            **EVALUATION,
        )  # fmt: skip
        rl = real.job(
            scale, f"expert: {short} after RL", (first.name,), task=task, folder=scale.out / f"expert-{short}",
            updates=200, method="grpo", student=first.config.out, lr=1e-6, prompts_per_update=64, **look,
        )  # fmt: skip
        before += [first, rl]
        warm.append((first, rl))
    compared = []
    for label, (_, rl) in zip((RL, BIG), warm):
        compared += real.runs(
            scale, label, student=warm[0][0].config.out, expert=rl.config.out, task=task, updates=200, eval_every=20,
            methods={"sft": {"lr": 1e-5}, "opd_full": {"lr": 1e-6}}, prompts_per_update=64, **look,
        )  # fmt: skip
    return plan_of(title, scale.out, compared, EXPERTS, before)


def plan(scale: Scale) -> Plan:
    return runs(scale, RECIPE.title, TASK)


def tiny_plan(scale: Scale) -> Plan:
    return public_tiny.warm_then_rl(RECIPE.title, scale)


RECIPE: Recipe = replace(
    fig1_countdown.RECIPE, name="fig1_gsm8k", figure="Fig. 1 (GSM8K)",
    title="GSM8K: offline matches an expert in reach, not one out of reach",
    unknown="Not known to us: the RL settings, the non-realizable expert, budgets and learning rates of the imitation.",
    settings=(
        Setting("student", f"{STUDENT} after the warm-up", PAPER),
        Setting("warm-up", "SFT on OpenR1-Math-220k's traces: 3,064 steps, batch 64, lr 1e-5, AdamW", PAPER),
        Setting("realizable expert", "the student after RL with verifiable rewards on GSM8K", PAPER),
        Setting("non-realizable expert", f"{LARGER} after the same warm-up and RL", OURS),
        Setting("lengths", "traces cut at 4,096 tokens, GSM8K completions at 2,048", OURS),
        Setting("imitation", "200 updates of 64 prompts, one completion each", OURS),
        Setting("evaluation", "T = 1, all 1,319 test problems x 4 samples at the end; "
                "200 problems every 20 updates", OURS),
        real.ONLINE_METHOD, *real.OPTIMIZER, *real.RL_SETTINGS, real.RUNS,
    ),
    lengths={"openr1": Lengths(120, 3000), "gsm8k": Lengths(120, 600)},
    stand_ins="Sums of small numbers as rows in the schemas of GSM8K and OpenR1, written by the recipe; 2-layer models "
    "of 64 and 128 dimensions that read bytes. They go through warm-up on traces, RL, SFT and OPD. What they reach "
    "says nothing about the paper.",
    plan=plan, tiny=tiny_plan,
)  # fmt: skip
