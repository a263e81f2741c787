"""Every rule finds its fault, at an update that can be computed by hand, and is silent on healthy logs."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from understudy.watch import checks
from understudy.watch.log import SIGNALS, Log, Row, Series
from understudy.watch.names import TOOLS
from understudy.watch.rules import RULES
from understudy.watch.watch import Verdict, judge, lines


def log(signals: Mapping[str, Sequence[float]], **options: Any) -> Log:
    """Rows 1, 2, ... with these values."""
    n = max(map(len, signals.values()))
    rows = [Row(i + 1, {k: v[i] for k, v in signals.items() if i < len(v)}) for i in range(n)]
    return Log("trl", "log", tuple(rows), **options)


def findings(log: Log) -> dict[str, tuple[int, int, bool]]:
    return {f.rule.name: (f.found.step, f.found.since, f.found.over) for f in judge(log).findings}


def noisy(level: Sequence[float], n: int, seed: int = 0) -> list[float]:
    """Means of n coin flips each."""
    draw = random.Random(seed)
    return [sum(draw.random() < p for _ in range(n)) / n for p in level]


UP = [0.3 + 0.004 * i for i in range(100)]

CASES: list[tuple[str, dict[str, Sequence[float]], dict[str, Any], tuple[int, int, bool]]] = [
    ("not-finite", {"loss": [1.0] * 6 + [math.nan] * 2}, {}, (7, 7, False)),
    ("not-finite", {"loss": [1.0] * 20, "grad_norm": [1.0, math.inf] + [1.0] * 18}, {}, (2, 2, True)),
    ("gradient-spikes", {"grad_norm": [1.0] * 20 + [21.0, 1.0, 21.0, 1.0, 50.0]}, {}, (25, 21, False)),
    ("learning-rate-zero", {"lr": [0.0, 1e-5, 1e-5, 0.0, 0.0, 0.0]}, {}, (6, 4, False)),
    ("end-token", {"at_limit": [1.0] * 10, "length": [64.0] * 10}, {}, (3, 1, False)),
    ("end-token", {"length": [64.0] * 10}, {"limit": 64}, (3, 1, False)),
    # over a half in the mean of five updates: from the third of them on
    ("length-limit", {"at_limit": [0.0] * 10 + [1.0] * 5}, {}, (13, 11, False)),
    ("length-collapse", {"length": [40.0] * 10 + [0.0] * 10}, {}, (14, 11, False)),
    ("entropy-collapse", {"entropy": [1.0] * 10 + [0.0] * 10, "reward": [0.5] * 20}, {}, (15, 11, False)),
    ("entropy-runaway", {"entropy": [1.0] * 10 + [5.0] * 10}, {}, (13, 11, False)),
    ("kl-start", {"kl_expert": [6.0, 6.0, 6.0, 5.0, 5.0, 5.0, 5.0, 5.0]}, {}, (3, 1, False)),
    ("kl-rises", {"kl_expert": [0.25] * 10 + [2.0] * 10}, {}, (13, 11, False)),
    ("mass-leak", {"student_mass": [1.0] * 10 + [0.9] * 5}, {}, (13, 9, False)),
    ("mass-leak", {"student_mass": [0.5] * 10}, {}, (5, 1, False)),
    ("sampler-mismatch", {"drift": [0.01] * 5 + [0.5] * 3}, {}, (6, 4, False)),
    ("sampler-mismatch", {"kl_sampler": [-0.2] * 5}, {}, (3, 1, False)),
    ("sampler-mismatch", {"ratio": [1.0] * 5 + [0.5] * 5}, {}, (7, 5, False)),
    ("clipping", {"clipped": [0.01] * 5 + [0.9] * 5}, {}, (7, 3, False)),
    ("no-signal", {"same_reward": [0.5] * 5 + [1.0] * 15, "reward": [0.0] * 20}, {}, (13, 4, False)),
    ("overfitting", {"eval_loss": [1.0, 0.8, 0.85, 0.9]}, {}, (4, 2, False)),
    ("nothing-learned", {"loss": [1.0] * 30}, {"samples": False}, (30, 1, False)),
    ("nothing-learned", {"reward": [0.5, 0.25] * 15}, {}, (30, 1, False)),
    ("accuracy-falls", {"accuracy": [0.5, 0.6, 0.3]}, {"facts": {"accuracy_prompts": 200}}, (3, 2, False)),
    ("accuracy-falls", {"accuracy": [0.5, 0.6, 0.3, 0.6]}, {"facts": {"accuracy_prompts": 200}}, (3, 2, True)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "signals", "options", "where"), CASES)
def test_a_rule_finds_its_fault(name: str, signals: dict[str, Any], options: dict[str, Any], where: Any):
    assert findings(log(signals, **options)) == {name: where}


def test_every_rule_has_a_case():
    names = {rule.name for rule in RULES}
    assert names == {case[0] for case in CASES} | {"reward-falls"}
    assert all(rule.remedy and rule.rule and rule.source for rule in RULES)


@pytest.mark.parametrize("case", CASES)
def test_a_log_that_grows_gets_the_same_finding(case: Any):
    """Catches a check that looks ahead: a prefix that ends at the update of the finding already has it."""
    name, signals, options, (step, _, _) = case
    short = {k: v[:step] for k, v in signals.items()}
    assert findings(log(short, **options))[name][0] == step
    if name != "nothing-learned":  # which is said of the end of a log
        before = {k: v[: step - 1] for k, v in signals.items()}
        assert step == 1 or name not in findings(log(before, **options))


# ---------------------------------------------------------------- the reward


def test_a_fall_of_the_reward_is_found_by_the_guards_alarm():
    rewards = noisy([0.5] * 20 + [0.0] * 20, 64)
    (name, (step, since, over)), *rest = findings(log({"reward": rewards}, prompts=64, updates=40)).items()
    assert (name, rest, over) == ("reward-falls", [], False)
    assert 21 <= step <= 23
    assert since == 21


def test_the_alarm_of_a_log_that_grows_is_one_test():
    """Catches an error that is spread over the rows so far: then each look would be a new test."""
    rewards = noisy([0.5] * 20 + [0.04] * 20, 16, 3)
    whole = findings(log({"reward": rewards}, prompts=16))["reward-falls"][:2]
    first = min(n for n in range(1, 41) if "reward-falls" in findings(log({"reward": rewards[:n]}, prompts=16)))
    assert whole == findings(log({"reward": rewards[:first]}, prompts=16))["reward-falls"][:2]
    assert whole[0] == first


def test_without_counts_the_same_fall_is_found_by_its_noise():
    rewards = noisy([0.5] * 20 + [0.0] * 20, 64)
    (step, since, over) = findings(log({"reward": rewards}))["reward-falls"]
    assert 21 <= step <= 25
    assert 20 <= since <= 22
    assert not over
    shifted = [r - 1.0 for r in rewards]  # rewards below 0: a fall by more than the best is away from 0
    assert "reward-falls" in findings(log({"reward": [2 * r for r in shifted]}, prompts=64))


def test_the_alarm_keeps_its_error():
    """Catches an alarm on noise: of 200 logs whose accuracy never falls, at most 5% are named (here 8, 20 prompts)."""
    named = sum(
        "reward-falls" in findings(log({"reward": noisy([0.3] * 60, 8, seed)}, prompts=8, updates=60))
        for seed in range(200)
    )
    assert named <= 10


def test_a_reward_that_recovers_is_over():
    rewards = noisy([0.5] * 20 + [0.02] * 10 + [0.6] * 20, 64)
    for options in ({"prompts": 64}, {}):
        found = findings(log({"reward": rewards}, **options))
        assert found["reward-falls"][2]
    assert judge(log({"reward": rewards})).present == ()


def test_rows_that_are_means_of_several_updates_count_them():
    """A log of every tenth update has ten times the prompts per row; our own has one update per row."""
    rewards = [0.5] * 10 + [0.3] * 3
    rows = tuple(Row(10 * (i + 1), {"reward": r}) for i, r in enumerate(rewards))
    assert "reward-falls" not in findings(Log("trl", "log", rows, prompts=8))  # .3 is above half of .5
    rows = tuple(Row(10 * (i + 1), {"reward": r}) for i, r in enumerate([0.5] * 10 + [0.05] * 3))
    assert "reward-falls" in findings(Log("trl", "log", rows, prompts=8))
    assert "reward-falls" not in findings(Log("understudy", "log", rows, prompts=8))


# ---------------------------------------------------------------- no false alarms


def test_a_healthy_log_is_clear():
    n = len(UP)
    signals = {
        "loss": [1 / (1 + i) for i in range(n)], "grad_norm": [2.0, 0.5] * (n // 2), "lr": [1e-5] * (n - 1) + [0.0],
        "reward": noisy(UP, 64), "at_limit": [0.1] * n, "length": [200.0 + i for i in range(n)],
        "entropy": [1.0 - 0.009 * i for i in range(n)], "kl_expert": [1.0 - 0.005 * i for i in range(n)],
        "drift": [0.01] * n, "ratio": [1.0] * n, "clipped": [0.01] * n, "same_reward": [0.4] * n,
        "student_mass": [0.97] * n, "eval_loss": [1.0, 0.9, 0.88, 0.9],
    }  # fmt: skip
    for prompts in (0, 64):
        verdict = judge(log(signals, prompts=prompts, updates=n))
        assert verdict.findings == ()
        assert {rule.name for rule, _ in verdict.unknown} == {"accuracy-falls"}


def test_what_a_higher_reward_or_the_expert_explains_is_no_fault():
    down = [1.0] * 10 + [0.01] * 20
    rising = [0.2] * 10 + [0.8] * 20
    assert findings(log({"entropy": down, "reward": rising})) == {}
    flat = {"entropy": down, "reward": [0.5, 0.6] * 15, "expert_entropy": [0.01] * 30, "kl_expert": down}
    assert findings(log(flat)) == {}
    assert findings(log({"entropy": down})) == {}  # without a reward a low entropy may be all that is wanted
    assert findings(log({"length": [40.0] * 10 + [2.0] * 20, "reward": rising})) == {}


def test_labels_of_one_token_end_at_their_limit():
    assert findings(log({"at_limit": [1.0] * 10, "length": [1.0] * 10, "kl_expert": [5.0] * 10})) == {}


def test_a_schedule_that_ends_at_zero_is_no_fault():
    assert findings(log({"lr": [1e-5] * 197 + [0.0] * 3}, updates=200)) == {}


# ---------------------------------------------------------------- what is not logged


def test_what_a_log_lacks_is_named_with_the_way_to_log_it():
    verdict = judge(Log("ms-swift", "log", tuple(Row(i, {"reward": 0.1 * i, "length": 5.0}) for i in range(1, 9))))
    assert {rule.name: signal for rule, signal in verdict.unknown}["entropy-collapse"] == "entropy"
    text = "\n".join(lines(verdict))
    assert "entropy-runaway: entropy (entropy of the student, nats per token) is not logged: set --log_entropy" in text
    verl = judge(Log("verl", "log", tuple(Row(i, {"reward": 0.1 * i}) for i in range(1, 9))))
    assert "probability_gap" in {rule.name: signal for rule, signal in verl.unknown}["sampler-mismatch"]
    assert "is not logged: set actor_rollout_ref.rollout.calculate_log_probs=True" in "\n".join(lines(verl))
    assert "skipped  kl-start, kl-rises, mass-leak, clipping" in text


def test_offline_training_has_no_rules_about_completions():
    verdict = judge(log({"loss": [1.0, 0.9, 0.8]}, samples=False))
    assert not any(rule.samples for rule in [*verdict.clear, *(rule for rule, _ in verdict.unknown)])


def test_the_tables_use_the_same_names():
    for tool in TOOLS.values():
        assert {name.removeprefix("-") for name in tool.names.values()} <= set(SIGNALS), tool.title
        assert set(tool.missing) <= set(SIGNALS), tool.title
    assert {s for rule in RULES for group in rule.needs for s in group} <= set(SIGNALS)


@pytest.mark.parametrize("n", range(8))
def test_a_short_log_is_no_error(n: int):
    """Every check on 0 to 7 rows of everything, and on rows of nothing."""
    everything = log({name: [0.5] * n for name in SIGNALS} | {"loss": [0.5] * max(n, 1)}, prompts=4, limit=8)
    assert isinstance(judge(everything), Verdict)
    for rule in RULES:
        assert rule.check(log({"loss": [math.nan] * n if n else [1.0]})) is None or rule.name == "not-finite"


def test_noise_of_a_series_ignores_its_trend():
    draw = random.Random(1)
    values = [0.01 * i + draw.gauss(0, 0.2) for i in range(4000)]
    assert Series(range(4000), values).noise() == pytest.approx(0.2, rel=0.05)
    assert checks.Series([1], [1.0]).noise() == 0.0
