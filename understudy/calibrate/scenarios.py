"""The scenarios on which the diagnosis of language models is set and scored: small, trained here, different in kind.

Scenarios that name the same model (models.py) share it. Each scenario belongs to the set that the rule was fitted on
(`set`) or to the one that it is scored on (`score`), never to both; both mix kinds. What is expected is the mechanism,
in words; what then happens is measured, whatever it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from understudy.calibrate import models as m
from understudy.calibrate.models import COUNTDOWN, DIRECT, FOUR, LOOKUP, MODELS, SCRATCH
from understudy.experiments import demo

LONG = 600  # updates of a training that is three times as long as the demo's


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
    first_seed: int = 400
    """Of its repetitions. Scenarios that were scored when they were new have models of their own."""

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
        "label-parity", "H = 1, hard to learn", "set", m.PARITY, "parity", "labeller:p_right=0.98",
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
        "label-eight-coin", "H = 1, very noisy", "set", m.EIGHT, "eight", "labeller:p_right=0.5",
        "One token of eight; right half of the time, else any other.", seconds=15,
    ),
    Scenario(
        "label-majority", "H = 1, secret feature, two classes", "set", m.MAJORITY, "majority", "secret:p_right=0.8",
        "One token of two; when the expert errs is secret.", seconds=15,
    ),
    # ---- an earlier rule was scored on these
    Scenario(
        "rl-on", "realizable, a strong student after more RL", "set", COUNTDOWN, "rl", "@rl-on",
        "The expert is the student after as much RL again: in reach, with little to gain.", first_seed=500,
    ),
    Scenario(
        "search-85", "hidden search that sometimes recovers", "set", COUNTDOWN, "base", "solver:p_right=0.85",
        "One attempt in seven is wrong, called so and mended, so its samples show a little recovery.", first_seed=500,
    ),
    Scenario(
        "lenient", "hidden search that overlooks errors", "set", COUNTDOWN, "base",
        "solver:p_right=0.8,false_ok=0.5",
        "It is mostly right, and calls half of the student's wrong attempts right.", first_seed=500,
    ),
    Scenario(
        "deep", "deeper network", "set", COUNTDOWN, "base", "@deep",
        "Twice the layers and better training: whether it is in reach is open.", first_seed=500,
    ),
    Scenario(
        "pupil", "of the student's class, taught online", "set", COUNTDOWN, "base", "@pupil",
        "Another base that learnt from hidden search online: the student's architecture, so in its class.",
        first_seed=500,
    ),
    Scenario(
        "early", "weak student", "set", COUNTDOWN, "early", "@rl",
        "A student that was trained for half as long imitates what the whole base became by RL.", first_seed=500,
    ),
    Scenario(
        "long", "a long training", "set", COUNTDOWN, "base", "solver",
        "Hidden search with 500 updates: what more of both does.", updates=500, seconds=110, first_seed=500,
    ),
    Scenario(
        "four-rl", "longer chains, realizable", "set", FOUR, "four", "@four-rl",
        "Four numbers; the expert is the student's own base after GRPO.", seconds=90, first_seed=500,
    ),
    Scenario(
        "sums-styled", "second task, irrelevant style", "set", SCRATCH, "scratch", "styled",
        "Addition step by step behind a secret first line.", seconds=45, first_seed=500,
    ),
    Scenario(
        "sums-three", "second task, longer", "set", m.SCRATCH_3, "scratch-3", "solver",
        "Three digits: the same step by step, with more steps.", seconds=60, first_seed=500,
    ),
    Scenario(
        "label-eight-secret", "H = 1, secret feature, eight classes", "set", m.EIGHT, "eight",
        "secret:p_right=0.55", "One token of eight; when the expert errs is secret, its likeliest label is right.",
        seconds=15, first_seed=500,
    ),
    Scenario(
        "label-next", "H = 1, likely text wrong, realizable", "set", LOOKUP, "lookup",
        "labeller:p_right=0.42,wrong=next", "One token; the wrong label next to the right one is likelier, at random.",
        seconds=15, first_seed=500,
    ),
    Scenario(
        "label-three", "H = 1, to be discovered", "set", m.THREE, "three", "labeller:p_right=0.95",
        "One token; the parity of three bits, which can be found.", seconds=15, first_seed=500,
    ),
    # ---- and scored on these, written down before any of them was run
    Scenario(
        "other-rl", "in its class, another's RL", "score", COUNTDOWN, "base", "@peer-rl",
        "Another base of the same recipe after RL: the student's architecture, other weights.",
        updates=LONG, seconds=140, first_seed=600,
    ),
    Scenario(
        "wide-search", "hidden search, wider student", "score", COUNTDOWN, "wide", "solver",
        "A student of half as much width again, and hidden search.",
        seconds=67, first_seed=600,
    ),
    Scenario(
        "hardly-checks", "hidden search that hardly checks", "score", COUNTDOWN, "base", "solver:false_ok=0.9",
        "It knows a solution, and calls nine wrong attempts in ten right: next to no recovery to learn.",
        seconds=33, first_seed=600,
    ),
    Scenario(
        "one-letter", "a little style", "score", COUNTDOWN, "base", "styled:style_length=1",
        "Hidden search behind one secret letter.",
        updates=LONG, seconds=140, first_seed=600,
    ),
    Scenario(
        "often-wrong", "expert often wrong, better than the student", "score", COUNTDOWN, "base", "half:p_right=0.7",
        "Three of its ten attempts are wrong and called ok.",
        seconds=33, first_seed=600,
    ),
    Scenario(
        "direct-noisy", "second task, noisy expert", "score", DIRECT, "direct", "solver:p_right=0.7",
        "Addition from the first digit on, by an expert that errs and mends it.",
        seconds=27, first_seed=600,
    ),
    Scenario(
        "scratch-small", "second task, capacity-limited", "score", SCRATCH, "scratch-small", "solver",
        "A student of a tenth of the weights adds step by step.",
        seconds=23, first_seed=600,
    ),
    Scenario(
        "label-six", "H = 1, secret feature, six classes", "score", m.SIX, "six", "secret:p_right=0.6",
        "One token of six; when the expert errs is secret.",
        seconds=15, first_seed=600,
    ),
    Scenario(
        "label-mod", "H = 1, a rule to be found", "score", m.MOD, "mod", "labeller:p_right=0.9",
        "One token of three: the number of ones modulo three.",
        seconds=15, first_seed=600,
    ),
    Scenario(
        "rl-larger", "strong student, stronger network", "score", COUNTDOWN, "rl", "@larger-rl",
        "A student after RL imitates a network of four times the weights after RL.",
        seconds=67, first_seed=600,
    ),
    Scenario(
        "four-errs", "longer chains, an expert that errs", "score", FOUR, "four", "solver:p_right=0.5",
        "Four numbers; half of the expert's attempts are wrong, called so and mended.",
        seconds=67, first_seed=600,
    ),
    Scenario(
        "trained-on", "the student, trained on", "score", COUNTDOWN, "early", "@base",
        "The expert is what the student became by more of the same training.",
        seconds=47, first_seed=600,
    ),
)  # fmt: skip

SCENARIOS: dict[str, Scenario] = {s.name: s for s in _ALL}
