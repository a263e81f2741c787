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
FIRST_SEED = 400

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
    "direct": Model(_pretrain(DIRECT, _SLOPPY, 700), seconds=26),
    "scratch": Model(_pretrain(SCRATCH, _SLOPPY, 700), seconds=32),
    "scratch-rl": Model(_rl(SCRATCH, "scratch", updates=80), ("scratch",), seconds=20),
    "lookup": Model(_pretrain(LOOKUP, _GUESS, 300, lr=2e-3), seconds=8),
    "parity": Model(_pretrain(PARITY, "labeller:p_right=0.5", 100, lr=2e-3), seconds=5),
}

_ALL = (
    # ---- the rule is set on these
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
    # ---- and scored on these
    Scenario(
        "rft", "self-distilled", "score", COUNTDOWN, "base", "@rft",
        "The expert is the base trained on its own passed completions: close by, and in the student's class.",
    ),
    Scenario(
        "always-ok", "hidden search without recovery", "score", COUNTDOWN, "base", "always_ok",
        "As hidden search, but it calls every attempt of the student's right: no recovery to learn.",
    ),
    Scenario(
        "rl-search", "hidden search, strong student", "score", COUNTDOWN, "rl", "solver",
        "A student that RL has made good meets an expert that knows the solution: samples may cost it what it had.",
    ),
    Scenario(
        "larger", "larger network", "score", COUNTDOWN, "base", "@larger",
        "A network of four times the weights and better training: whether it is in reach is open.",
    ),
    Scenario(
        "four", "longer chains", "score", FOUR, "four", "solver",
        "Four numbers, three operations: longer attempts, more of them wrong.", seconds=80,
    ),
    Scenario(
        "bulk", "more data than the student can absorb", "score", COUNTDOWN, "small", "solver",
        "A small student and three times the data: what is left is capacity, not sampling.", updates=600, seconds=70,
    ),
    Scenario(
        "sums-scratch", "second task, step by step", "score", SCRATCH, "scratch", "solver",
        "The carries are written first, each from the one before: the same expert is within reach.", seconds=40,
    ),
    Scenario(
        "sums-rl", "second task, realizable", "score", SCRATCH, "scratch", "@scratch-rl",
        "Addition after GRPO from the student's own base.", seconds=45,
    ),
    Scenario(
        "label-lure", "H = 1, likeliest label wrong", "score", LOOKUP, "lookup", "secret:p_right=0.45,wrong=next",
        "One token; averaged over what the student cannot see, one wrong label is likelier than the right one.",
        seconds=15,
    ),
    Scenario(
        "label-parity", "H = 1, hard to learn", "score", PARITY, "parity", "labeller:p_right=0.98",
        "One token; the parity of six bits, which the student can represent and does not find: headroom, no gain.",
        seconds=15,
    ),
)  # fmt: skip

SCENARIOS: dict[str, Scenario] = {s.name: s for s in _ALL}
