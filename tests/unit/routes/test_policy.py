"""The rules of auto, one case each, and what holds whatever was measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.routes.policy import (
    REWARDED,
    START,
    STOP,
    Choice,
    Gains,
    Known,
    Node,
    Policy,
    Value,
    decide,
    methods_for,
)

ALL = ("sft", "opd_full", "gkd")
REWARDS = (*ALL, REWARDED)


def value(mean: float) -> Value:
    return Value(mean, max(0.0, mean - 0.05), min(1.0, mean + 0.05), 256)


def chosen(*nodes: Node, left: float = 0.5, expert: float = 0.9, methods: tuple[str, ...] = ALL) -> str:
    known = Known((Node(START, look=value(0.3)), *nodes), value(expert), left, methods)
    return decide(known, Policy(), Gains()).option.action


def phase(name: str, mean: float, parent: str = START, stopped: str = "") -> Node:
    return Node(name, parent, name.partition("-")[2], 0.3, value(mean), stopped)


def test_the_rules_one_by_one() -> None:
    sft, same, hurt = phase("0-sft", 0.5), phase("0-sft", 0.28), phase("0-sft", 0.2)
    assert chosen(left=1.0) == "sft from start"
    assert chosen(left=1.0, expert=0.2) == STOP
    assert chosen(left=1.0, methods=("opd",)) == "opd from start"
    assert chosen(left=1.0, methods=("sft",)) == "sft from start"
    assert chosen(sft) == "gkd from 0-sft"
    assert chosen(same) == "gkd from 0-sft"  # too early to be seen
    assert chosen(hurt) == "opd_full from start"
    assert chosen(hurt, phase("1-opd_full", 0.3, stopped="trial")) == "sft from 0-sft"
    assert chosen(hurt, phase("1-opd_full", 0.3, stopped="trial"), phase("2-sft", 0.4, "0-sft")) == STOP
    assert chosen(sft, left=0.01) == STOP
    assert chosen(sft, phase("1-gkd", 0.8, "0-sft")) == STOP
    assert chosen(sft, phase("1-gkd", 0.5, "0-sft", "harm")) == "opd_full from 1-gkd"  # restored: as good as 0-sft
    assert chosen(sft, phase("1-gkd", 0.4, "0-sft", "futility")) == "opd_full from 0-sft"
    both = (sft, phase("1-gkd", 0.4, "0-sft", "harm"), phase("2-opd_full", 0.45, "0-sft", "futility"))
    assert chosen(*both) == "sft from 0-sft"
    assert chosen(*both, phase("3-sft", 0.55, "0-sft")) == STOP
    assert chosen(sft, methods=("sft",)) == STOP


def test_the_rules_with_rewards() -> None:
    sft, hurt = phase("0-sft", 0.5), phase("0-sft", 0.2)

    def then(*nodes: Node, **known: Any) -> str:
        return chosen(*nodes, methods=REWARDS, **known)

    assert then(left=1.0) == "gkd_reward from start"
    assert then(left=1.0, expert=0.96) == "sft from start"
    assert then(left=1.0, expert=0.26) == "gkd_reward from start"  # no better, for all one knows: rewards teach
    assert then(left=1.0, expert=0.24) == STOP
    nothing = Known((Node(START, look=Value(0.0, 0.0, 0.0, 256)),), Value(0.0, 0.0, 0.0, 256), 1.0, REWARDS)
    assert decide(nothing, Policy(), Gains()).option.action == STOP  # neither solves anything
    assert then(sft) == "sft from 0-sft"
    assert then(sft, phase("1-sft", 0.6, "0-sft")) == STOP
    assert then(phase("0-sft", 0.35)) == "gkd_reward from 0-sft"
    assert then(hurt) == "gkd_reward from start"
    stopped = Node("0-gkd_reward", START, REWARDED, 0.3, value(0.3), "harm")
    assert then(stopped) == "sft from start"
    assert then(stopped, phase("1-sft", 0.5)) == STOP
    assert then(dataclasses.replace(stopped, stopped="")) == STOP
    assert then(hurt, dataclasses.replace(stopped, name="1-gkd_reward")) == "sft from 0-sft"


def test_nothing_verifies() -> None:
    """Catches a rule that needs an accuracy where there is none."""
    start, sft = Node(START), Node("0-sft", START, "sft", 0.5)
    known = Known((start, sft), None, 0.5, ALL)
    assert decide(known, Policy(), Gains()).option.action == "gkd from 0-sft"
    ended = Known((start, sft, Node("1-gkd", "0-sft", "gkd", 0.5)), None, 0.0, ALL)
    assert ended.best.name == "1-gkd"
    assert decide(ended, Policy(), Gains()).option.method == STOP


means = st.floats(0.0, 1.0)


@given(
    means,
    means,
    st.sampled_from([ALL, REWARDS]),
    st.lists(st.tuples(means, st.sampled_from(["", "harm", "futility", "plateau", "trial"])), max_size=8),
)
def test_it_ends_and_keeps_the_best(
    start: float, expert: float, methods: tuple[str, ...], outcomes: list[tuple[float, str]]
) -> None:
    """Catches a rule that goes in circles, starts from a model that does not exist, or spends what is not there."""
    nodes = [Node(START, look=value(start))]
    left = 1.0
    for mean, stopped in [*outcomes, *[(0.5, "harm")] * 8]:
        known = Known(tuple(nodes), value(expert), left, methods)
        choice = decide(known, Policy(), Gains())
        assert choice.why
        assert choice.would_change
        if choice.option.method == STOP:
            break
        assert choice.option.parent in {n.name for n in nodes}
        assert 0 < choice.option.share <= left + 1e-12
        name = f"{len(nodes) - 1}-{choice.option.method}"
        left -= 0.5 * choice.option.share
        nodes.append(Node(name, choice.option.parent, choice.option.method, 0.5 * choice.option.share, value(mean),
                          stopped if choice.option.method != "sft" else ""))  # fmt: skip
    else:
        pytest.fail("it never stops")
    assert len(nodes) <= 3 + len(methods)
    assert known.best.look.mean == max(n.look.mean for n in nodes)  # type: ignore[union-attr]


def test_what_an_expert_can_do_says_which_methods_there_are() -> None:
    assert methods_for(frozenset({"sample"})) == ("sft",)
    assert methods_for(frozenset({"score"})) == ("opd",)
    assert methods_for(frozenset({"sample", "score"})) == ("sft", "opd")
    assert methods_for(frozenset({"sample", "score", "distribution"})) == REWARDS
    assert methods_for(frozenset({"sample", "score", "distribution"}), rewards=False) == ALL
    assert methods_for(frozenset()) == ()


def test_gains_are_shares_of_the_distance_to_the_expert() -> None:
    gains = Gains({("gkd", True): (0.5, 0.1, 0.8)}, 3)
    assert gains.expect("gkd", phase("0-sft", 0.5), value(0.9)) == pytest.approx((0.7, 0.54, 0.82))
    assert gains.expect("gkd", Node(START, look=value(0.5)), value(0.9)) == (None, None, None)


def test_a_trial_needs_updates_to_be_seen_in() -> None:
    """Catches a trial that ends within the warm-up of a short phase: it stopped the best route of a quick demo."""
    policy = Policy()
    assert policy.trial_at(1000, 10) == policy.trial_share
    assert policy.trial_at(100, 10) == pytest.approx(0.2)
    assert policy.trial_at(30, 10) == 0


def test_online_after_a_harmful_offline_phase_is_on_trial_against_the_student() -> None:
    start, hurt = Node(START, look=value(0.3)), phase("0-sft", 0.1)
    choice = decide(Known((start, hurt), value(0.95), 0.7, ALL, 400, 10), Policy(), Gains())
    assert (choice.option.action, choice.reach) == ("opd_full from start", 0.3)
    assert choice.trial == Policy().trial_at(280, 10)


def test_an_expert_that_is_often_wrong_is_passed_online_or_imitated() -> None:
    """Its samples teach no more than its accuracy: online first, as long as its own completions get there soon."""
    start = Node(START, look=value(0.3))

    def choice(*nodes: Node, left: float = 0.8, updates: int = 400) -> Choice:
        return decide(Known((start, *nodes), value(0.5), left, ALL, updates, 10), Policy(), Gains())

    first = choice(left=1.0)
    assert first.option.action == "opd_full from start"
    assert first.option.share == 1.0
    assert (first.reach, first.trial) == (0.5, Policy().trial_share)
    assert choice(left=1.0, updates=30).option.action == "sft from start"  # too short for a trial
    failed = phase("0-opd_full", 0.4, stopped="trial")
    assert choice(failed).option.action == "gkd from 0-opd_full"
    assert not choice(failed).reach
    lost = phase("0-opd_full", 0.2, stopped="trial")
    assert choice(lost).option.action == "gkd from start"
    assert choice(lost, phase("1-gkd", 0.3, stopped="harm")).option.action == "sft from start"  # opd_full has failed
    no_mixture = decide(Known((start, failed), value(0.5), 0.8, ("sft", "opd_full"), 400, 10), Policy(), Gains())
    assert no_mixture.option.action == "sft from start"
    passed = phase("0-opd_full", 0.7, stopped="plateau")
    assert choice(passed).option.action == "gkd from 0-opd_full"
    assert choice(phase("0-opd_full", 0.7), left=0.01).option.action == STOP
