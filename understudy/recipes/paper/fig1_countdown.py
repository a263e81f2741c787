"""Fig. 1, Countdown: SFT on a realizable expert matches it; on a non-realizable one it leaves a gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.experiments.plan import Plan
from understudy.recipes import figures, real, tiny
from understudy.recipes.recipe import OURS, PAPER, Drawing, Lengths, Recipe, Scale, Setting, plan_of
from understudy.report.comparison.summary import Summary

STUDENT, LARGER = "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct"
RANGES = "max_number=20,ood_min=21,ood_max=30,max_target=99"
TASK = f"countdown:format=answer,n_numbers=3,{RANGES},ops=+-*/,max_new_tokens=1024"
RL, BIG = "RL of the base", "7B after RL"
EVALUATION = {"eval_prompts": 200, "final_prompts": 500, "final_samples": 4, "max_new_tokens": 1024}
EXPERTS: Mapping[str, Mapping[str, Any]] = {
    RL: {"mechanism": "The student's own base after GRPO: realizable by construction.", "realizable": True,
         "expect": "none"},
    BIG: {"mechanism": "A larger model of the family after the same GRPO: whether 1.5B can represent it is not known; "
          "the paper calls such experts non-realizable.", "realizable": None, "expect": "better"},
}  # fmt: skip


def plan(scale: Scale) -> Plan:
    student, larger = scale.model(STUDENT), scale.model(LARGER)
    before = []
    for label, model in ((RL, student), (BIG, larger)):
        before.append(
            real.job(scale, f"expert: {label}", (), task=TASK, folder=scale.out / f"expert-{model.split('/')[-1]}",
                     updates=200, method="grpo", student=model, lr=1e-6, prompts_per_update=64, **EVALUATION)
        )  # fmt: skip
    runs = []
    for label, expert in zip((RL, BIG), before):
        runs += real.runs(
            scale, label, student=student, expert=expert.config.out, task=TASK, updates=200, eval_every=20,
            methods={"sft": {"lr": 1e-5}, "opd_full": {"lr": 1e-6}}, prompts_per_update=64, **EVALUATION,
        )  # fmt: skip
    return plan_of(RECIPE.title, scale.out, runs, EXPERTS, before)


def tiny_plan(scale: Scale) -> Plan:
    return tiny.countdown_two_experts(RECIPE.title, scale)


def draw(s: Summary) -> Drawing:
    panels = figures.over_training(s, "test")
    panels += figures.finals(s, "test", "After training")
    claims = []
    for expert in s.experts:
        claims += (figures.matching if s.realizable(expert) else figures.gap)(s, expert)
    return Drawing(tuple(panels), tuple(claims), "Sampled accuracy on held-out problems; means over seeds, 95% bands.")


RECIPE = Recipe(
    "fig1_countdown", "Fig. 1 (Countdown)", "Countdown: offline matches an expert in reach, not one out of reach",
    "Accuracy against training: SFT on a realizable expert matches that expert and OPD then adds nothing; SFT on a "
    "non-realizable expert leaves a large gap.",
    "Not known to us: model sizes, number ranges, hyper-parameters, and which experts are the non-realizable ones.",
    (
        Setting("student", STUDENT, f"{PAPER}: a Qwen2.5 Instruct model; its size is {OURS}"),
        Setting("realizable expert", "the student after GRPO on the verifier's reward", PAPER),
        Setting("non-realizable expert", f"{LARGER} after the same GRPO", OURS),
        Setting("task", TASK, f"{PAPER}: Countdown; ranges, operators and format are {OURS}"),
        Setting("imitation", "200 updates of 64 prompts, one completion each, at most 1,024 tokens", OURS),
        Setting("evaluation", "T = 1, 4 samples of 500 held-out problems at the end; "
                "200 problems every 20 updates", OURS),
        real.ONLINE_METHOD, *real.OPTIMIZER, *real.RL_SETTINGS, real.RUNS,
    ),
    {"countdown": Lengths(120, 400)},
    "A 2-layer model of 64 dimensions, pre-trained on traces of a mediocre solver. Realizable: the same after 110 GRPO "
    "updates. Out of reach: a program that searches in secret. 200 updates of imitation, whole-vocabulary OPD.",
    plan, tiny_plan, draw,
)  # fmt: skip
