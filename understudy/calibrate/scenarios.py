"""The scenarios on which the diagnosis of language models is set and scored: small, trained here, different in kind.

Every model is made from nothing by one run of MODELS; scenarios that name the same model share it. Each scenario
belongs to the set that the rule was fitted on (`set`) or to the one that it is scored on (`score`), never to both;
both mix kinds. What is expected is the mechanism, in words; what then happens is measured, whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from understudy import demo
from understudy.config import TrainConfig, parse_spec

SPLIT_SEED = 2029  # problems of which no setting was chosen
FIRST_SEEDS = {"set": 400, "score": 500}  # so that no model of the one is seen by the other

Where = Callable[[str], str]
"""Model name -> its run directory."""
Recipe = Callable[[str, int, Where], TrainConfig]
"""(out, seed, where) -> the run that makes a model."""


@dataclass(frozen=True)
class Model:
    """How one model is made: its run, once the models in `needs` are there."""

    config: Recipe
    needs: tuple[str, ...] = ()
    seconds: float = 60.0
    """About what it takes on one core, for the time left; nothing depends on it."""


@dataclass(frozen=True)
class Scenario:
    name: str
    kind: str
    set: Literal["set", "score"]
    task: str
    student: str
    """Name of a model."""
    expert: str
    """@NAME of a model, or a task's programmatic expert."""
    expect: str
    """The mechanism, in words."""
    updates: int = demo.UPDATES
    prompts_per_update: int = 64
    seconds: float = 45.0
    """About what both trainings and the diagnosis take on one core."""

    def models(self) -> tuple[str, ...]:
        """Every model that it needs, those that others are made from first."""
        found: dict[str, None] = {}

        def visit(name: str) -> None:
            for other in MODELS[name].needs:
                visit(other)
            found[name] = None

        for name in (self.student, *([self.expert[1:]] if self.expert.startswith("@") else [])):
            visit(name)
        return tuple(found)

    @property
    def first_seed(self) -> int:
        return FIRST_SEEDS[self.set]

    @property
    def imitate(self) -> dict[str, Any]:
        """Fields of both trainings beside method, student, expert, task, seed and out."""
        own = {"updates": self.updates, "prompts_per_update": self.prompts_per_update}
        return demo.COMMON | demo.IMITATE | own


def vary(task: str, **changes: Any) -> str:
    """A task's text with some options set; None drops one."""
    spec = parse_spec(task, "task")
    options: Mapping[str, Any] = {**spec.args, **changes}
    told = ",".join(f"{k}={v}" for k, v in options.items() if v is not None)
    return f"{spec.name}:{told}" if told else spec.name


COUNTDOWN = demo.setting(demo.DemoConfig(split_seed=SPLIT_SEED))[0]
FOUR = vary(COUNTDOWN, n_numbers=4, max_number=8, ood_min=9, ood_max=12, wide_max=12)
DIRECT = f"addition:format=direct,digits=2,attempts=3,split_seed={SPLIT_SEED}"
SCRATCH = f"addition:format=scratch,digits=2,attempts=3,split_seed={SPLIT_SEED}"
LOOKUP = f"classify:rule=lookup,bits=10,relevant=4,classes=4,split_seed={SPLIT_SEED}"
SCRATCH_3 = vary(SCRATCH, digits=3)
EIGHT = vary(LOOKUP, classes=8)
MAJORITY = f"classify:rule=majority,bits=10,relevant=5,classes=2,split_seed={SPLIT_SEED}"
THREE = f"classify:rule=count,bits=10,relevant=3,classes=2,split_seed={SPLIT_SEED}"
PARITY = f"classify:rule=count,bits=10,relevant=6,classes=2,split_seed={SPLIT_SEED}"

_SMALL = "scratch:width=24,layers=1,heads=2"


def _pretrain(task: str, expert: str, updates: int, lr: float = 4e-3) -> Recipe:
    """A base of a task other than the demo's: supervised, from nothing."""

    def make(out: str, seed: int, where: Where) -> TrainConfig:
        return TrainConfig(
            method="sft", student="scratch:width=64,layers=2,heads=4", expert=expert, task=task, seed=seed,
            out=out, updates=updates, prompts_per_update=48, lr=lr, schedule="cosine", warmup=50,
            prompt_pool=24_000, **demo.COMMON,
        )  # fmt: skip

    return make


def _base(task: str, seed_shift: int = 0, **changes: Any) -> Recipe:
    """The demo's base, so that its recipe is followed."""
    return lambda out, seed, where: replace(demo.base(Path(out), seed + seed_shift, task), **changes)


def _rl(task: str, base: str, **changes: Any) -> Recipe:
    return lambda out, seed, where: replace(demo.rl_expert(Path(out), seed, task, where(base)), **changes)


def _imitator(method: str, student: str, expert: str) -> Recipe:
    """A student that has imitated before, as the scenarios' trainings do."""

    def make(out: str, seed: int, where: Where) -> TrainConfig:
        return TrainConfig(
            method=method, student=where(student), expert=expert, task=COUNTDOWN, seed=seed, out=out,
            updates=demo.UPDATES, **demo.COMMON, **demo.IMITATE,
        )  # fmt: skip

    return make


def _deep(out: str, seed: int, where: Where) -> TrainConfig:
    student = "scratch:width=64,layers=4,heads=4"
    return replace(demo.larger_expert(Path(out), seed, COUNTDOWN), student=student)


def _rft(out: str, seed: int, where: Where) -> TrainConfig:
    return TrainConfig(
        method="rft", student=where("base"), task=COUNTDOWN, seed=seed, out=out, updates=60, lr=1e-3, **demo.COMMON
    )  # fmt: skip


_SLOPPY = "mediocre:p_right=0.5,false_ok=0.1,false_no=0.02"
"""Makes the traces of addition's bases. At its usual .12 right a base of three digits learnt no addition at all in
1,100 updates: with almost any carry in the traces, each digit is a toss-up."""
_GUESS = "labeller:p_right=0.4"

MODELS: dict[str, Model] = {
    "base": Model(_base(COUNTDOWN), seconds=70),
    "peer": Model(_base(COUNTDOWN, seed_shift=7000), seconds=70),
    "small": Model(_base(COUNTDOWN, student=_SMALL), seconds=40),
    "rl": Model(_rl(COUNTDOWN, "base"), ("base",), seconds=80),
    "rft": Model(_rft, ("base",), seconds=35),
    "larger": Model(lambda out, seed, where: demo.larger_expert(Path(out), seed, COUNTDOWN), seconds=100),
    "four": Model(_base(FOUR), seconds=110),
    "rl-short": Model(_rl(COUNTDOWN, "base", updates=50), ("base",), seconds=40),
    "rl-on": Model(_rl(COUNTDOWN, "rl"), ("rl",), seconds=80),
    "searched": Model(_imitator("sft", "base", "solver"), ("base",), seconds=18),
    "pupil": Model(_imitator("opd_full", "peer", "solver"), ("peer",), seconds=35),
    "larger-rl": Model(_rl(COUNTDOWN, "larger"), ("larger",), seconds=160),
    "deep": Model(_deep, seconds=120),
    "early": Model(_base(COUNTDOWN, updates=700), seconds=42),
    "four-rl": Model(_rl(FOUR, "four"), ("four",), seconds=120),
    "direct": Model(_pretrain(DIRECT, _SLOPPY, 700), seconds=26),
    "scratch": Model(_pretrain(SCRATCH, _SLOPPY, 700), seconds=32),
    "scratch-rl": Model(_rl(SCRATCH, "scratch", updates=80), ("scratch",), seconds=20),
    "direct-rl": Model(_rl(DIRECT, "direct", updates=80), ("direct",), seconds=20),
    "scratch-3": Model(_pretrain(SCRATCH_3, _SLOPPY, 900), seconds=60),
    "lookup": Model(_pretrain(LOOKUP, _GUESS, 300, lr=2e-3), seconds=8),
    "eight": Model(_pretrain(EIGHT, "labeller:p_right=0.25", 300, lr=2e-3), seconds=8),
    "majority": Model(_pretrain(MAJORITY, "labeller:p_right=0.6", 200, lr=2e-3), seconds=6),
    "three": Model(_pretrain(THREE, "labeller:p_right=0.6", 150, lr=2e-3), seconds=5),
    "parity": Model(_pretrain(PARITY, "labeller:p_right=0.5", 100, lr=2e-3), seconds=5),
}

_ALL = (
    # ---- the rule is set on these; from `rft` to `label-parity`, an earlier rule was scored on them
    Scenario(
        "rl", "realizable, made by RL", "set", COUNTDOWN, "base", "@rl",
        "The expert is the student's own base after GRPO: the student can represent it, so samples are enough.",
    ),
    Scenario(
        "search", "hidden search with recovery", "set", COUNTDOWN, "base", "solver",
        "The expert knows a solution before its first token; its samples never show how to recover from a wrong "
        "attempt, its scores of the student's own attempts do.",
    ),
    Scenario(
        "half", "expert whose likely text is wrong", "set", COUNTDOWN, "base", "half",
        "Half of its attempts are wrong and called ok: what it likes, on the student's prefixes too, fails.",
    ),
    Scenario(
        "styled", "irrelevant style", "set", COUNTDOWN, "base", "styled",
        "Hidden search behind a secret first line that the reward ignores and no student can predict.",
    ),
    Scenario(
        "peer", "expert no better than the student", "set", COUNTDOWN, "base", "@peer",
        "Another base of the same recipe: nothing to gain.",
    ),
    Scenario(
        "small-rl", "capacity-limited", "set", COUNTDOWN, "small", "@rl",
        "A student of a tenth of the weights imitates what a larger one learned by RL.", seconds=30,
    ),
    Scenario(
        "sums-direct", "second task, computed out of sight", "set", DIRECT, "direct", "solver",
        "The sum is written from its first digit on, so the carries must be worked out before anything is written.",
        seconds=30,
    ),
    Scenario(
        "label-coin", "H = 1, noisy", "set", LOOKUP, "lookup", "labeller:p_right=0.85",
        "One token; the expert errs at random, which the student can copy: both losses have one solution.",
        seconds=15,
    ),
    Scenario(
        "label-secret", "H = 1, secret feature", "set", LOOKUP, "lookup", "secret:p_right=0.7",
        "One token; when the expert errs depends on what the student cannot see. Samples teach its error rate, the "
        "reverse KL its likeliest label.",
        seconds=15,
    ),
    Scenario(
        "rft", "self-distilled", "set", COUNTDOWN, "base", "@rft",
        "The expert is the base trained on its own passed completions: close by, and in the student's class.",
    ),
    Scenario(
        "always-ok", "hidden search without recovery", "set", COUNTDOWN, "base", "always_ok",
        "As hidden search, but it calls every attempt of the student's right: no recovery to learn.",
    ),
    Scenario(
        "rl-search", "hidden search, strong student", "set", COUNTDOWN, "rl", "solver",
        "A student that RL has made good meets an expert that knows the solution: samples may cost it what it had.",
    ),
    Scenario(
        "larger", "larger network", "set", COUNTDOWN, "base", "@larger",
        "A network of four times the weights and better training: whether it is in reach is open.",
    ),
    Scenario(
        "four", "longer chains", "set", FOUR, "four", "solver",
        "Four numbers, three operations: longer attempts, more of them wrong.", seconds=80,
    ),
    Scenario(
        "bulk", "more data than the student can absorb", "set", COUNTDOWN, "small", "solver",
        "A small student and three times the data: what is left is capacity, not sampling.", updates=600, seconds=70,
    ),
    Scenario(
        "sums-scratch", "second task, step by step", "set", SCRATCH, "scratch", "solver",
        "The carries are written first, each from the one before: the same expert is within reach.", seconds=40,
    ),
    Scenario(
        "sums-rl", "second task, realizable", "set", SCRATCH, "scratch", "@scratch-rl",
        "Addition after GRPO from the student's own base.", seconds=45,
    ),
    Scenario(
        "label-lure", "H = 1, likeliest label wrong", "set", LOOKUP, "lookup", "secret:p_right=0.45,wrong=next",
        "One token; averaged over what the student cannot see, one wrong label is likelier than the right one.",
        seconds=15,
    ),
    Scenario(
        "label-parity", "H = 1, hard to learn", "set", PARITY, "parity", "labeller:p_right=0.98",
        "One token; the parity of six bits, which the student can represent and does not find: headroom, no gain.",
        seconds=15,
    ),
    Scenario(
        "rl-short", "realizable, made by a little RL", "set", COUNTDOWN, "base", "@rl-short",
        "As `rl`, after half of the updates: less to gain.",
    ),
    Scenario(
        "searched", "hidden search, student fine-tuned on it", "set", COUNTDOWN, "searched", "solver",
        "A student that SFT on hidden search has taken as far as it does: more of the same, or online?",
    ),
    Scenario(
        "weak-search", "hidden search that errs and recovers", "set", COUNTDOWN, "base", "solver:p_right=0.3",
        "It is wrong more often than right and says so, so its samples show recovery too.",
    ),
    Scenario(
        "styled-rl", "irrelevant style, strong student", "set", COUNTDOWN, "rl", "styled",
        "A student that RL has made good meets hidden search behind a secret first line.",
    ),
    Scenario(
        "larger-rl", "larger network after RL", "set", COUNTDOWN, "base", "@larger-rl",
        "A network of four times the weights, made good by RL: whether it is in reach is open.",
    ),
    Scenario(
        "wide-student", "hidden search, larger student", "set", COUNTDOWN, "larger", "solver",
        "A larger, better student and the same hidden search.", seconds=90,
    ),
    Scenario(
        "short", "a short training", "set", COUNTDOWN, "base", "solver",
        "Hidden search with 60 updates: not enough for either.", updates=60, seconds=20,
    ),
    Scenario(
        "sums-half", "second task, likely text wrong", "set", SCRATCH, "scratch", "half",
        "An expert that is right half of the time and calls it ok.", seconds=30,
    ),
    Scenario(
        "direct-rl", "second task, realizable, out of sight", "set", DIRECT, "direct", "@direct-rl",
        "Addition from the first digit on, after GRPO from the student's own base.", seconds=35,
    ),
    Scenario(
        "label-eight-coin", "H = 1, very noisy", "set", EIGHT, "eight", "labeller:p_right=0.5",
        "One token of eight; right half of the time, else any other.", seconds=15,
    ),
    Scenario(
        "label-majority", "H = 1, secret feature, two classes", "set", MAJORITY, "majority", "secret:p_right=0.8",
        "One token of two; when the expert errs is secret.", seconds=15,
    ),
    # ---- and scored on these, written down before any of them was run
    Scenario(
        "rl-on", "realizable, a strong student after more RL", "score", COUNTDOWN, "rl", "@rl-on",
        "The expert is the student after as much RL again: in reach, with little to gain.",
    ),
    Scenario(
        "search-85", "hidden search that sometimes recovers", "score", COUNTDOWN, "base", "solver:p_right=0.85",
        "One attempt in seven is wrong, called so and mended, so its samples show a little recovery.",
    ),
    Scenario(
        "lenient", "hidden search that overlooks errors", "score", COUNTDOWN, "base",
        "solver:p_right=0.8,false_ok=0.5",
        "It is mostly right, and calls half of the student's wrong attempts right.",
    ),
    Scenario(
        "deep", "deeper network", "score", COUNTDOWN, "base", "@deep",
        "Twice the layers and better training: whether it is in reach is open.",
    ),
    Scenario(
        "pupil", "of the student's class, taught online", "score", COUNTDOWN, "base", "@pupil",
        "Another base that learnt from hidden search online: the student's architecture, so in its class.",
    ),
    Scenario(
        "early", "weak student", "score", COUNTDOWN, "early", "@rl",
        "A student that was trained for half as long imitates what the whole base became by RL.",
    ),
    Scenario(
        "long", "a long training", "score", COUNTDOWN, "base", "solver",
        "Hidden search with 500 updates: what more of both does.", updates=500, seconds=110,
    ),
    Scenario(
        "four-rl", "longer chains, realizable", "score", FOUR, "four", "@four-rl",
        "Four numbers; the expert is the student's own base after GRPO.", seconds=90,
    ),
    Scenario(
        "sums-styled", "second task, irrelevant style", "score", SCRATCH, "scratch", "styled",
        "Addition step by step behind a secret first line.", seconds=45,
    ),
    Scenario(
        "sums-three", "second task, longer", "score", SCRATCH_3, "scratch-3", "solver",
        "Three digits: the same step by step, with more steps.", seconds=60,
    ),
    Scenario(
        "label-eight-secret", "H = 1, secret feature, eight classes", "score", EIGHT, "eight",
        "secret:p_right=0.55", "One token of eight; when the expert errs is secret, its likeliest label is right.",
        seconds=15,
    ),
    Scenario(
        "label-next", "H = 1, likely text wrong, realizable", "score", LOOKUP, "lookup",
        "labeller:p_right=0.42,wrong=next", "One token; the wrong label next to the right one is likelier, at random.",
        seconds=15,
    ),
    Scenario(
        "label-three", "H = 1, to be discovered", "score", THREE, "three", "labeller:p_right=0.95",
        "One token; the parity of three bits, which can be found.", seconds=15,
    ),
)  # fmt: skip

SCENARIOS: dict[str, Scenario] = {s.name: s for s in _ALL}
