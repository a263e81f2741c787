"""Fig. 6: the same student and online method, two experts; what differs is how their scores agree with the reward."""

from __future__ import annotations

from understudy.experiments.plan import Plan
from understudy.recipes import figures, real, tiny
from understudy.recipes.recipe import OURS, PAPER, PUBLIC, Drawing, Lengths, Recipe, Scale, Setting, plan_of
from understudy.report.comparison.summary import Summary

TASK = "dapo:test=aime24,ood=aime25,template=chat,thinking_open=true,max_new_tokens=7168"
GOOD, OTHER = "Skywork-7B", "R1-Distill-7B"
EVALUATION = {"eval_prompts": 30, "final_prompts": 30, "final_samples": 16, "eval_temperature": 0.7,
              "eval_top_p": 0.95, "max_new_tokens": 7168, "eval_expert": False}  # fmt: skip
EXPERTS = {
    GOOD: {"mechanism": "The same kind of 7B model after RL with verifiable rewards.", "realizable": None,
           "expect": None},
    OTHER: {"mechanism": "A 7B model distilled from DeepSeek-R1, as the student was.", "realizable": None,
            "expect": None},
}  # fmt: skip


def plan(scale: Scale) -> Plan:
    runs = []
    for label, expert in ((GOOD, real.SKYWORK), (OTHER, real.R1_7B)):
        runs += real.runs(
            scale, label, student=scale.model(real.R1_STUDENT), expert=scale.model(expert), task=TASK, updates=200,
            eval_every=50, methods={"opd_full": {"lr": 1e-6, "top_k": 16, "top_k_of": "student"}},
            prompts_per_update=64, samples_per_prompt=4, **EVALUATION,
        )  # fmt: skip
    return plan_of(RECIPE.title, scale.out, runs, EXPERTS, ())


def tiny_plan(scale: Scale) -> Plan:
    return tiny.two_aligned(RECIPE.title, scale)


def draw(s: Summary) -> Drawing:
    panels = figures.over_training(s, "test")
    panels += figures.finals(s, "test", "After training")
    panels += figures.finals(s, "ood", "After training, second test set")
    claims = []
    if len(s.experts) >= 2:  # with --tiny a third one, of another tokenizer
        good, other = (figures.online(s, e) for e in s.experts[:2])
        claims.append(
            figures.claim("the better aligned expert lifts the student further (32.8% against 27.1%)",
                          f"OPD on {s.experts[0]} minus OPD on {s.experts[1]}", s.difference(good, other), 1)
        )  # fmt: skip
    for expert, known in zip(s.experts, ("from 25.0% to 32.8%", "from 25.0% to 27.1%")):
        arm = figures.online(s, expert)
        if arm is not None:
            claims.append(figures.claim(f"the student gains ({known})", f"OPD on {expert} minus base", s.gain(arm), 1))
    own = [s.accuracy(e) for e in s.experts[:2]]
    note = ""
    if len(own) == 2 and own[0] is not None and own[1] is not None:
        note = f" The experts' own accuracies: {100 * own[0].value:.1f}% and {100 * own[1].value:.1f}%."
    return Drawing(tuple(panels), tuple(claims), f"Sampled accuracy; means over seeds with 95% intervals.{note}")


RECIPE = Recipe(
    "fig6_two_experts", "Fig. 6 (section 5.3)", "Two experts, one student: alignment with the reward decides",
    "Online imitation of two 7B experts from the same 1.5B student: the average of AIME 2024 and 2025 goes from 25.0% "
    "to 32.8% with Skywork-7B, and to 27.1% with R1-Distill-7B (mean of three runs).",
    "Not known to us: data, steps, and samples per problem in the paper itself. We follow the public recipe of arXiv "
    "2604.13016 where it says.",
    (
        Setting("student", real.R1_STUDENT, PAPER),
        Setting("experts", f"{real.SKYWORK} and {real.R1_7B}", f"{PAPER}: Skywork-7B, R1-Distill-7B; the hub "
        f"ids are {OURS}"),
        Setting("training prompts", "DAPO-Math-17k", PUBLIC),
        Setting("rollouts", "64 prompts x 4 samples, T = 1, at most 7,168 tokens", PUBLIC),
        Setting("learning rate", "1e-6, AdamW", PUBLIC),
        Setting("updates", "200", OURS),
        Setting("divergence", "opd_full: KL(student || expert), both coarsened to the student's top 16 tokens",
                f"{PUBLIC}; the rest of the vocabulary is one more bucket: {OURS}"),
        Setting("evaluation", "AIME 2024 and 2025, 16 samples, T = 0.7, top-p 0.95", PUBLIC),
        Setting("precision", "float32 weights and optimizer, bfloat16 products", OURS),
        real.RUNS,
    ),
    {"dapo": Lengths(150, 5000)},
    "The student is a 2-layer model that knows Countdown poorly. Both experts search in secret and are right as often; "
    "one calls wrong attempts wrong, the other calls every attempt ok, so on the student's errors it disagrees with "
    "the reward. A third expert is another base after RL whose tokens are pairs of digits; opd imitates it.",
    plan, tiny_plan, draw, tiny_seeds=2,
)  # fmt: skip
