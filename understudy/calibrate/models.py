"""The models of the calibration: small bases and experts, each made by one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig
from understudy.experiments import demo
from understudy.specs import parse_spec

SPLIT_SEED = 2029  # problems of which no setting was chosen

Where = Callable[[str], str]
"""Model name -> its run directory."""
Maker = Callable[[str, int, Where], TrainConfig]
"""(out, seed, where) -> the run that makes a model."""


@dataclass(frozen=True)
class Model:
    """How one model is made: its run, once the models in `needs` are there."""

    config: Maker
    needs: tuple[str, ...] = ()
    seconds: float = 60.0
    """About what it takes on one core; only the time left is computed from it."""


def vary(task: str, **changes: Any) -> str:
    """A task's text with some options set; None drops one."""
    spec = parse_spec(task, "task")
    options: Mapping[str, Any] = {**spec.args, **changes}
    text = ",".join(f"{k}={v}" for k, v in options.items() if v is not None)
    return f"{spec.name}:{text}" if text else spec.name


COUNTDOWN = demo.countdown(SPLIT_SEED)
FOUR = vary(COUNTDOWN, n_numbers=4, max_number=8, ood_min=9, ood_max=12, wide_max=12)
DIRECT = f"addition:format=direct,digits=2,attempts=3,split_seed={SPLIT_SEED}"
SCRATCH = f"addition:format=scratch,digits=2,attempts=3,split_seed={SPLIT_SEED}"
LOOKUP = f"classify:rule=lookup,bits=10,relevant=4,classes=4,split_seed={SPLIT_SEED}"
SCRATCH_3 = vary(SCRATCH, digits=3)
EIGHT = vary(LOOKUP, classes=8)
MAJORITY = f"classify:rule=majority,bits=10,relevant=5,classes=2,split_seed={SPLIT_SEED}"
SIX = vary(LOOKUP, classes=6)
MOD = f"classify:rule=count,bits=10,relevant=5,classes=3,split_seed={SPLIT_SEED}"
THREE = f"classify:rule=count,bits=10,relevant=3,classes=2,split_seed={SPLIT_SEED}"
PARITY = f"classify:rule=count,bits=10,relevant=6,classes=2,split_seed={SPLIT_SEED}"

SORT = f"sort:alphabet=10,length=8,split_seed={SPLIT_SEED}"
PATH = f"path:arms=2,reach=2,split_seed={SPLIT_SEED}"
CHAIN = f"chain:steps=10,ops=+,modulus=5,aligned=true,split_seed={SPLIT_SEED}"
MIXED = (
    f"pair:main=sort;alphabet=10;length=6;split_seed={SPLIT_SEED},other={LOOKUP.replace(':', ';').replace(',', ';')}"
)
DIGITS = f"sort:symbols=digits,alphabet=8,length=7,split_seed={SPLIT_SEED}"
LETTERS = f"sort:alphabet=26,length=6,split_seed={SPLIT_SEED}"
ARMS = vary(PATH, arms=3)
REACH = vary(PATH, reach=3)
TWELVE = f"chain:steps=12,ops=+,modulus=6,aligned=true,split_seed={SPLIT_SEED}"
FIVE = f"chain:steps=5,ops=+,modulus=5,aligned=true,split_seed={SPLIT_SEED}"
SUMS = f"chain:format=direct,steps=2,ops=+-,modulus=10,split_seed={SPLIT_SEED}"
_EIGHT_INSIDE = EIGHT.replace(":", ";").replace(",", ";")
MIXED_CHAIN = f"pair:main=chain;steps=3;ops=+;modulus=5;aligned=true;split_seed={SPLIT_SEED},other={_EIGHT_INSIDE}"
SHORT_CHAIN = f"chain:steps=3,ops=+,modulus=5,aligned=true,split_seed={SPLIT_SEED}"

_USUAL = "scratch:width=64,layers=2,heads=4"
_BIG = "scratch:width=192,layers=3,heads=6"
_SMALL = "scratch:width=24,layers=1,heads=2"


def _pretrain(task: str, expert: str, updates: int, lr: float = 4e-3, student: str = _USUAL, **changes: Any) -> Maker:
    """A base of a task other than the demo's: supervised, from random weights."""

    def make(out: str, seed: int, where: Where) -> TrainConfig:
        config = TrainConfig(
            method="sft", student=student, expert=expert, task=task, seed=seed,
            out=out, updates=updates, prompts_per_update=48, lr=lr, schedule="cosine", warmup=50,
            prompt_pool=24_000, **demo.COMMON,
        )  # fmt: skip
        return replace(config, **changes)

    return make


def _base(task: str, seed_shift: int = 0, **changes: Any) -> Maker:
    """A base by the demo's recipe."""
    return lambda out, seed, where: replace(demo.base(Path(out), seed + seed_shift, task), **changes)


def _rl(task: str, base: str, **changes: Any) -> Maker:
    return lambda out, seed, where: replace(demo.rl_expert(Path(out), seed, task, where(base)), **changes)


def _imitator(method: str, student: str, expert: str) -> Maker:
    """A student that an imitation as in the scenarios has trained."""

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
    )


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
    "peer-rl": Model(_rl(COUNTDOWN, "peer"), ("peer",), seconds=80),
    "wide": Model(_base(COUNTDOWN, student="scratch:width=96,layers=2,heads=4"), seconds=100),
    "early": Model(_base(COUNTDOWN, updates=700), seconds=42),
    "four-rl": Model(_rl(FOUR, "four"), ("four",), seconds=120),
    "direct": Model(_pretrain(DIRECT, _SLOPPY, 700), seconds=26),
    "scratch": Model(_pretrain(SCRATCH, _SLOPPY, 700), seconds=32),
    "scratch-rl": Model(_rl(SCRATCH, "scratch", updates=80), ("scratch",), seconds=20),
    "direct-rl": Model(_rl(DIRECT, "direct", updates=80), ("direct",), seconds=20),
    "scratch-small": Model(_pretrain(SCRATCH, _SLOPPY, 700, student=_SMALL), seconds=20),
    "scratch-3": Model(_pretrain(SCRATCH_3, _SLOPPY, 900), seconds=60),
    "lookup": Model(_pretrain(LOOKUP, _GUESS, 300, lr=2e-3), seconds=8),
    "eight": Model(_pretrain(EIGHT, "labeller:p_right=0.25", 300, lr=2e-3), seconds=8),
    "six": Model(_pretrain(SIX, "labeller:p_right=0.35", 300, lr=2e-3), seconds=8),
    "mod": Model(_pretrain(MOD, "labeller:p_right=0.5", 200, lr=2e-3), seconds=6),
    "majority": Model(_pretrain(MAJORITY, "labeller:p_right=0.6", 200, lr=2e-3), seconds=6),
    "three": Model(_pretrain(THREE, "labeller:p_right=0.6", 150, lr=2e-3), seconds=5),
    "parity": Model(_pretrain(PARITY, "labeller:p_right=0.5", 100, lr=2e-3), seconds=5),
    # of the later scenarios (families.py)
    "sort": Model(_pretrain(SORT, "mediocre", 350, micro_batch=48), seconds=50),
    "sort-early": Model(_pretrain(SORT, "mediocre", 150, micro_batch=48), seconds=30),
    "sort-rl": Model(_rl(SORT, "sort", updates=60), ("sort",), seconds=25),
    "sort-big": Model(_pretrain(SORT, "mediocre", 200, 2e-3, _BIG, micro_batch=48), seconds=135),
    "path": Model(_pretrain(PATH, "mediocre", 700, micro_batch=48), seconds=70),
    "path-rl": Model(_rl(PATH, "path", updates=150, lr=1e-3), ("path",), seconds=80),
    "chain": Model(_pretrain(CHAIN, "mediocre:p_right=0.6", 300, micro_batch=32, prompts_per_update=32), seconds=120),
    "chain-short": Model(_pretrain(SHORT_CHAIN, "mediocre:p_right=0.6", 450, micro_batch=48), seconds=90),
    "mixed": Model(_pretrain(f"{MIXED},share=0.3", "mediocre", 350, micro_batch=48), seconds=40),
    "digits": Model(_pretrain(DIGITS, "mediocre:notice=0.3", 200, micro_batch=48), seconds=25),
    "letters": Model(_pretrain(LETTERS, "mediocre", 450, micro_batch=48), seconds=45),
    "letters-rl": Model(_rl(LETTERS, "letters", updates=60), ("letters",), seconds=40),
    "arms": Model(_pretrain(ARMS, "mediocre", 900, micro_batch=48), seconds=90),
    "reach": Model(_pretrain(REACH, "mediocre", 800, micro_batch=48), seconds=80),
    "reach-rl": Model(_rl(REACH, "reach", updates=150, lr=1e-3), ("reach",), seconds=110),
    "twelve": Model(_pretrain(TWELVE, "mediocre:p_right=0.6", 300, micro_batch=32, prompts_per_update=32), seconds=150),
    "chain-big": Model(_pretrain(FIVE, "mediocre:p_right=0.6", 250, 2e-3, _BIG, micro_batch=48), seconds=150),
    "sums": Model(_pretrain(SUMS, "mediocre", 300, micro_batch=48), seconds=20),
    "mixed-chain": Model(
        _pretrain(f"{MIXED_CHAIN},share=0.4", "mediocre:p_right=0.6", 500, micro_batch=48), seconds=80
    ),
}
