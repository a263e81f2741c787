"""The scenarios on which the diagnosis of language models is set and scored: small, trained here, different in kind.

Scenarios that name the same model (models.py) share it. Each scenario belongs to the set that the rule was fitted on
(`set`) or to the one that it is scored on (`score`), never to both; both mix kinds. `expect` is the mechanism in words;
the outcome is measured.
"""

from __future__ import annotations

from dataclasses import replace

from understudy.calibrate import families
from understudy.calibrate.models import (
    COUNTDOWN,
    DIRECT,
    EIGHT,
    FOUR,
    LOOKUP,
    MAJORITY,
    MOD,
    PARITY,
    SCRATCH,
    SCRATCH_3,
    SIX,
    THREE,
)
from understudy.calibrate.scenario import Scenario

LONG = 600  # updates of a training that is three times as long as the demo's


# The rule is fitted on these; from `rft` to `label-parity`, an earlier rule was scored on them.
_FITTED = (
    Scenario("rl", "realizable, made by RL", COUNTDOWN, "base", "@rl",
         "The expert is the student's own base after GRPO: the student can represent it, so samples are enough."),
    Scenario("search", "hidden search with recovery", COUNTDOWN, "base", "solver",
         "The expert knows a solution before its first token; its samples never show how to recover from a wrong "
         "attempt, its scores of the student's own attempts do."),
    Scenario("half", "expert whose likely text is wrong", COUNTDOWN, "base", "half",
         "Half of its attempts are wrong and called ok: what it finds likely, on the student's prefixes too, fails."),
    Scenario("styled", "irrelevant style", COUNTDOWN, "base", "styled",
         "Hidden search behind a secret first line that the reward ignores and no student can predict."),
    Scenario("peer", "expert no better than the student", COUNTDOWN, "base", "@peer",
         "Another base of the same recipe: nothing to gain."),
    Scenario("small-rl", "capacity-limited", COUNTDOWN, "small", "@rl",
         "A student of a tenth of the weights imitates what a larger one learned by RL.", seconds=30),
    Scenario("sums-direct", "second task, computed out of sight", DIRECT, "direct", "solver",
         "The sum is written from its first digit on, so the carries must be worked out before anything is written.",
         seconds=30),
    Scenario("label-coin", "H = 1, noisy", LOOKUP, "lookup", "labeller:p_right=0.85",
         "One token; the expert errs at random, which the student can copy: both losses have one solution.",
         seconds=15),
    Scenario("label-secret", "H = 1, secret feature", LOOKUP, "lookup", "secret:p_right=0.7",
         "One token; when the expert errs depends on what the student cannot see. Samples teach its error rate, the "
         "reverse KL its likeliest label.", seconds=15),
    Scenario("rft", "self-distilled", COUNTDOWN, "base", "@rft",
         "The expert is the base trained on its own passed completions: close by, and in the student's class."),
    Scenario("always-ok", "hidden search without recovery", COUNTDOWN, "base", "always_ok",
         "As hidden search, but it calls every attempt of the student's right: no recovery to learn."),
    Scenario("rl-search", "hidden search, strong student", COUNTDOWN, "rl", "solver",
         "A student that RL has made good meets an expert that knows the solution: samples may cost it what it had."),
    Scenario("larger", "larger network", COUNTDOWN, "base", "@larger",
         "A network of four times the weights and better training: whether it is in reach is open."),
    Scenario("four", "longer chains", FOUR, "four", "solver",
         "Four numbers, three operations: longer attempts, more of them wrong.", seconds=80),
    Scenario("bulk", "more data than the student can absorb", COUNTDOWN, "small", "solver",
         "A small student and three times the data: what is left is capacity, not sampling.", updates=600, seconds=70),
    Scenario("sums-scratch", "second task, step by step", SCRATCH, "scratch", "solver",
         "The carries are written first, each from the one before: the same expert is within reach.", seconds=40),
    Scenario("sums-rl", "second task, realizable", SCRATCH, "scratch", "@scratch-rl",
         "Addition after GRPO from the student's own base."),
    Scenario("label-lure", "H = 1, likeliest label wrong", LOOKUP, "lookup", "secret:p_right=0.45,wrong=next",
         "One token; averaged over what the student cannot see, one wrong label is likelier than the right one.",
         seconds=15),
    Scenario("label-parity", "H = 1, hard to learn", PARITY, "parity", "labeller:p_right=0.98",
         "One token; the parity of six bits, which the student can represent and does not find: headroom, no gain.",
         seconds=15),
    Scenario("rl-short", "realizable, made by a little RL", COUNTDOWN, "base", "@rl-short",
         "As `rl`, after half of the updates: less to gain."),
    Scenario("searched", "hidden search, student fine-tuned on it", COUNTDOWN, "searched", "solver",
         "A student that SFT on hidden search has taken as far as it does: more of the same, or online?"),
    Scenario("weak-search", "hidden search that errs and recovers", COUNTDOWN, "base", "solver:p_right=0.3",
         "It is wrong more often than right and says so, so its samples show recovery too."),
    Scenario("styled-rl", "irrelevant style, strong student", COUNTDOWN, "rl", "styled",
         "A student that RL has made good meets hidden search behind a secret first line."),
    Scenario("larger-rl", "larger network after RL", COUNTDOWN, "base", "@larger-rl",
         "A network of four times the weights, made good by RL: whether it is in reach is open."),
    Scenario("wide-student", "hidden search, larger student", COUNTDOWN, "larger", "solver",
         "A larger, better student and the same hidden search.", seconds=90),
    Scenario("short", "a short training", COUNTDOWN, "base", "solver",
         "Hidden search with 60 updates: not enough for either.", updates=60, seconds=20),
    Scenario("sums-half", "second task, likely text wrong", SCRATCH, "scratch", "half",
         "An expert that is right half of the time and calls it ok.", seconds=30),
    Scenario("direct-rl", "second task, realizable, out of sight", DIRECT, "direct", "@direct-rl",
         "Addition from the first digit on, after GRPO from the student's own base.", seconds=35),
    Scenario("label-eight-coin", "H = 1, very noisy", EIGHT, "eight", "labeller:p_right=0.5",
         "One token of eight; right half of the time, else any other.", seconds=15),
    Scenario("label-majority", "H = 1, secret feature, two classes", MAJORITY, "majority", "secret:p_right=0.8",
         "One token of two; when the expert errs is secret.", seconds=15),
)  # fmt: skip
# The rule is fitted on these too; an earlier rule was scored on them.
_SCORED_BEFORE = (
    Scenario("rl-on", "realizable, a strong student after more RL", COUNTDOWN, "rl", "@rl-on",
         "The expert is the student after as much RL again: in reach, with little to gain."),
    Scenario("search-85", "hidden search that sometimes recovers", COUNTDOWN, "base", "solver:p_right=0.85",
         "One attempt in seven is wrong, called so and corrected, so its samples show a little recovery."),
    Scenario("lenient", "hidden search that overlooks errors", COUNTDOWN, "base", "solver:p_right=0.8,false_ok=0.5",
         "It is mostly right, and calls half of the student's wrong attempts right."),
    Scenario("deep", "deeper network", COUNTDOWN, "base", "@deep",
         "Twice the layers and better training: whether it is in reach is open."),
    Scenario("pupil", "of the student's class, taught online", COUNTDOWN, "base", "@pupil",
         "Another base that learnt from hidden search online: the student's architecture, so in its class."),
    Scenario("early", "weak student", COUNTDOWN, "early", "@rl",
         "A student that was trained for half as long imitates what the whole base became by RL."),
    Scenario("long", "a long training", COUNTDOWN, "base", "solver",
         "Hidden search with 500 updates: what more of both does.", updates=500, seconds=110),
    Scenario("four-rl", "longer chains, realizable", FOUR, "four", "@four-rl",
         "Four numbers; the expert is the student's own base after GRPO.", seconds=90),
    Scenario("sums-styled", "second task, irrelevant style", SCRATCH, "scratch", "styled",
         "Addition step by step behind a secret first line."),
    Scenario("sums-three", "second task, longer", SCRATCH_3, "scratch-3", "solver",
         "Three digits: the same step by step, with more steps.", seconds=60),
    Scenario("label-eight-secret", "H = 1, secret feature, eight classes", EIGHT, "eight", "secret:p_right=0.55",
         "One token of eight; when the expert errs is secret, its likeliest label is right.", seconds=15),
    Scenario("label-next", "H = 1, likely text wrong, realizable", LOOKUP, "lookup", "labeller:p_right=0.42,wrong=next",
         "One token; the wrong label next to the right one is likelier, at random.", seconds=15),
    Scenario("label-three", "H = 1, to be discovered", THREE, "three", "labeller:p_right=0.95",
         "One token; the parity of three bits, which can be found.", seconds=15),
)  # fmt: skip
# The rule is scored on these; they were written down before any of them was run.
_SCORED = (
    Scenario("other-rl", "in its class, another's RL", COUNTDOWN, "base", "@peer-rl",
         "Another base of the same recipe after RL: the student's architecture, other weights.",
         updates=LONG, seconds=140),
    Scenario("wide-search", "hidden search, wider student", COUNTDOWN, "wide", "solver",
         "A student of half as much width again, and hidden search.", seconds=67),
    Scenario("hardly-checks", "hidden search that hardly checks", COUNTDOWN, "base", "solver:false_ok=0.9",
         "It knows a solution, and calls nine wrong attempts in ten right: next to no recovery to learn.", seconds=33),
    Scenario("one-letter", "a little style", COUNTDOWN, "base", "styled:style_length=1",
         "Hidden search behind one secret letter.", updates=LONG, seconds=140),
    Scenario("often-wrong", "expert often wrong, better than the student", COUNTDOWN, "base", "half:p_right=0.7",
         "Three of its ten attempts are wrong and called ok.", seconds=33),
    Scenario("direct-noisy", "second task, noisy expert", DIRECT, "direct", "solver:p_right=0.7",
         "Addition from the first digit on, by an expert that errs and corrects it.", seconds=27),
    Scenario("scratch-small", "second task, capacity-limited", SCRATCH, "scratch-small", "solver",
         "A student of a tenth of the weights adds step by step.", seconds=23),
    Scenario("label-six", "H = 1, secret feature, six classes", SIX, "six", "secret:p_right=0.6",
         "One token of six; when the expert errs is secret.", seconds=15),
    Scenario("label-mod", "H = 1, a rule to be found", MOD, "mod", "labeller:p_right=0.9",
         "One token of three: the number of ones modulo three.", seconds=15),
    Scenario("rl-larger", "strong student, stronger network", COUNTDOWN, "rl", "@larger-rl",
         "A student after RL imitates a network of four times the weights after RL.", seconds=67),
    Scenario("four-errs", "longer chains, an expert that errs", FOUR, "four", "solver:p_right=0.5",
         "Four numbers; half of the expert's attempts are wrong, called so and corrected.", seconds=67),
    Scenario("trained-on", "the student, trained on", COUNTDOWN, "early", "@base",
         "The expert is what the student became by more of the same training.", seconds=47),
)  # fmt: skip

CALIBRATED: dict[str, Scenario] = {
    s.name: replace(s, set=name, first_seed=seed)
    for name, seed, group in (("set", 400, _FITTED), ("set", 500, _SCORED_BEFORE), ("score", 600, _SCORED))
    for s in group
}
"""The scenarios of the diagnosis's calibration (`calibrate run`)."""
SCENARIOS: dict[str, Scenario] = CALIBRATED | families.SCENARIOS
"""All of them, the later ones of the bank too."""
