"""Replays of decision rules on rows made by hand: the best route must win, and nothing may look at the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bank_by_hand import UPDATES, digits, look, row

from understudy.calibrate.bank import policies, rows
from understudy.calibrate.bank.branches import BRANCHES, cost, path
from understudy.calibrate.bank.replay import Replay
from understudy.calibrate.bank.rows import Row, Trained
from understudy.routes.policy import Policy

ONLINE = Policy(after_offline=("opd_full", "gkd"))
IMITATION = ("sft", "opd_full", "gkd")


def test_every_branch_costs_at_most_the_budget_and_has_a_parent() -> None:
    for name, branch in BRANCHES.items():
        assert cost(name) <= 1
        assert branch.parent == "" or branch.parent in BRANCHES
        assert [b.name for b in path(name)][-1] == name


def test_a_row_round_trips(tmp_path: Path) -> None:
    want = row(sft=0.61)
    rows.write(tmp_path / "bank.jsonl", [want])
    rows.write(tmp_path / "bank.jsonl", [row("b"), row("b", sft=0.7)])  # the same unit: replaced
    got = rows.read(tmp_path / "bank.jsonl")
    assert [r.scenario for r in got] == ["a", "b"]
    assert got[0] == want
    assert got[1].branches["sft"].end.accuracy == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize(
    ("policy", "ends", "route", "accuracy"),
    [
        (Policy(), {"sft_5_gkd": 0.9}, "sft+gkd", 0.9),
        (Policy(), {"sft_5_gkd": 0.05, "sft_25_opd": 0.8}, "sft+gkd!+opd_full", 0.8),
        (Policy(), {"sft_25": 0.2, "opd": 0.8}, "sft+opd_full", 0.8),
        (Policy(), {"sft_25": 0.2, "opd": 0.1, "sft_5_sft": 0.8}, "sft+opd_full!+sft", 0.8),
        (ONLINE, {"sft_25_opd": 0.05, "sft_5_gkd": 0.8}, "sft+opd_full!+gkd", 0.8),
        (Policy(), {"right": 0.5, "opd": 0.8}, "opd_full", 0.8),
        (Policy(), {"right": 0.7, "opd": 0.5, "gkd": 0.8}, "opd_full!+gkd", 0.8),
    ],
)
def test_the_replay_does_what_auto_would(policy: Policy, ends: dict[str, float], route: str, accuracy: float) -> None:
    result = Replay(row(**ends), policy, methods=IMITATION).run()
    assert result.route == route
    assert result.accuracy == pytest.approx(accuracy, abs=0.06)
    assert result.cost <= 1 + 1e-9


@pytest.mark.parametrize(
    ("ends", "route", "accuracy"),
    [
        ({"right": 0.8, "sft_5_gkd": 0.9, "reward": 0.8}, "gkd_reward", 0.8),
        ({"right": 0.99, "sft_25": 0.5, "sft_5_sft": 0.8}, "sft+sft", 0.8),
        ({"right": 0.99, "sft_25": 0.3, "sft_25_reward": 0.7, "reward": 0.7}, "sft+gkd_reward", 0.7),
        ({"right": 0.99, "sft_25": 0.0, "reward": 0.7}, "sft+gkd_reward", 0.7),
        ({"right": 0.8, "reward": 0.0, "sft": 0.7, "sft_5": 0.7}, "gkd_reward!+sft", 0.7),
    ],
)
def test_rewards_come_first_and_offline_after_harm(ends: dict[str, float], route: str, accuracy: float) -> None:
    result = Replay(row(**ends), Policy()).run()
    assert result.route == route
    assert result.accuracy == pytest.approx(accuracy, abs=0.06)


def test_harm_is_undone() -> None:
    """Catches a replay that keeps what the guard stopped."""
    bad = row(sft_25=0.6, sft_25_opd=0.0, sft_5_gkd=0.0, sft_5_sft=0.62)
    result = Replay(bad, Policy(), methods=IMITATION).run()
    assert result.accuracy >= 0.58
    assert policies.best_route(bad) == pytest.approx(0.5, abs=0.01)


def test_a_phase_that_rises_and_falls_keeps_its_peak() -> None:
    """Catches a replay that ends with the last model, where the guard restores the best checkpoint."""
    made = row(right=0.5)
    peak = [0.3, *[0.7] * 60, *[0.4] * 139]
    looks = [(i, digits(peak[i], 1)) for i in range(0, UPDATES, 5)]
    made.branches["opd"] = Trained(look(0.4), 1.0, 1.0, UPDATES, list(peak), [5.0] * UPDATES, looks)
    assert Replay(made, Policy(), methods=IMITATION).run().accuracy == pytest.approx(0.7, abs=0.1)
    assert policies.guarded("opd_full")(made, ()).accuracy == pytest.approx(0.7, abs=0.1)


def test_scores_are_by_hand() -> None:
    two = [row("a", sft=0.8), row("b", opd=0.7)]
    got = {s.rule: s for s in policies.scores(two)}
    assert got["always sft"].regret[0] == pytest.approx((0.0 + 0.2) / 2, abs=0.01)
    assert got["always opd"].regret[0] == pytest.approx((0.3 + 0.0) / 2, abs=0.01)
    assert got["nothing"].bad == 1
    assert got["oracle"].regret[0] == 0
    assert got["always sft"].harm == 0


def test_fitted_rules_never_see_their_own_scenario() -> None:
    """Catches a leave-one-out that leaves in."""
    known = [row(name, seed, sft=0.4 + 0.1 * seed) for name in "abcd" for seed in range(2)]
    seen: list[set[str]] = []

    def spy(one: Row, others: list[Row]) -> policies.Result:
        seen.append({r.scenario for r in others} & {one.scenario})
        return policies.Result(0.5, 1.0, "")

    policies.score("spy", spy, known, known)  # type: ignore[arg-type]
    assert len(seen) == 8
    assert not any(seen)


def test_gains_are_shares_of_the_distance() -> None:
    some = [replace(row(str(i), sft_5=0.5, sft_5_gkd=0.8)) for i in range(3)]
    gains = policies.gains_of(some)
    assert gains.shares[("gkd", True)][0] == pytest.approx((0.8 - 0.5) / 0.45, abs=0.03)
    assert gains.shares[("sft", False)][0] == pytest.approx(0.2 / 0.65, abs=0.03)
    assert ("opd_full", True) in gains.shares
