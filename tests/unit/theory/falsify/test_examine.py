"""docs/theory.md, section 6: the falsifiers refute nothing of the theory and do refute a broken one."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from understudy.theory.exact.decompose import split
from understudy.theory.falsify import examine as examine_module
from understudy.theory.falsify import search as falsify
from understudy.theory.falsify.examine import examine
from understudy.theory.falsify.generators import GENERATORS
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.instance import Bandit
from understudy.theory.families.trap import Trap


@pytest.mark.parametrize("kind", GENERATORS)
def test_generators_make_distributions(kind: str) -> None:
    batch = GENERATORS[kind](50, np.random.default_rng(0))
    assert batch.students.sum(-1) == pytest.approx(np.ones(batch.students.shape[:-1]))
    assert batch.expert.sum(-1) == pytest.approx(np.ones(batch.expert.shape[:-1]))
    assert set(np.unique(batch.reward)) == {0.0, 1.0}


def test_without_the_condition_online_fails_freely() -> None:
    batch = GENERATORS["generic"](20_000, np.random.default_rng(6))
    parts = split(batch.mu, batch.students, batch.expert, batch.reward)
    online, offline = falsify.chosen_values(parts)
    off_target = np.abs(online - parts.value_expert) > 0.05
    assert off_target.mean() == pytest.approx(0.776, abs=0.02)
    assert (offline >= parts.value_expert - 0.05).mean() == pytest.approx(0.615, abs=0.02)


def test_a_cheating_learner_is_caught() -> None:
    """A learner that is given the answer is below the floor: the falsifier must report it."""
    family = FamilyF(8, 0.05, 0.2)
    rows = [falsify.LearnerRow("oracle", 64, 0.0, 0.0, family.regret(falsify.Info.OFF_S, 64))]
    assert rows[0].refutes


def test_a_wrong_delta_is_caught() -> None:
    """With a Delta that is too small, the search must report F2 events."""
    batch = GENERATORS["generic"](2000, np.random.default_rng(1))
    parts = split(batch.mu, batch.students, batch.expert, batch.reward)
    tampered = dataclasses.replace(parts, nuisance=parts.nuisance + 0.9 * parts.relevant)
    online, _ = falsify.chosen_values(tampered)
    slack = tampered.delta - falsify.bernoulli_kl(online, parts.value_expert)
    assert (slack < -1e-9).mean() > 0.01


def test_examining_the_trap() -> None:
    report = examine(Trap().bandit(), runs=400)
    assert not report.refuted
    assert "V >= 0.956169" in " ".join(report.story)
    assert {f.code for f in report.findings} >= {"F1", "F2", "F3", "F4", "3B", "3D", "3E", "3F"}


def test_examining_family_f_with_every_world() -> None:
    family = FamilyF(2, 0.1, 0.1)
    worlds = tuple((family.expert(t), family.reward(t)) for t in family.bits())
    students = np.stack([family.student(b) for b in family.bits()])
    bandit = Bandit(family.law, worlds[0][0], students, worlds[0][1], alternatives=worlds)
    report = examine(bandit, n=16, runs=1000)
    assert not report.refuted
    assert [f.refuted for f in report.findings if f.code == "F1"] == [False]


@pytest.mark.parametrize("seed", range(6))
def test_random_instances_are_never_refuted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for kind in GENERATORS:
        report = examine(GENERATORS[kind](1, rng).bandit(0), n=32, runs=100, seed=seed)
        assert not report.refuted, [f for f in report.findings if f.refuted]


def test_a_student_outside_the_expert_is_reported_and_not_refuted() -> None:
    students = np.array([[[0.5, 0.5, 0.0]], [[0.0, 1.0, 0.0]]])
    bandit = Bandit(np.ones(1), np.array([[0.5, 0.0, 0.5]]), students, np.array([[1.0, 0.0, 0.0]]))
    report = examine(bandit, runs=50)
    assert not report.refuted
    assert any("infinite" in line for line in report.story)
    assert json.dumps([f.code for f in report.findings])


def _too_small_a_delta(parts: falsify.Split) -> falsify.Split:
    return dataclasses.replace(parts, nuisance=parts.nuisance + 0.9 * parts.relevant)


def test_the_tally_and_the_verdict_report_violations(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a Delta that is too small on purpose, F2 and F3 must be counted, and an instance be called refuted."""
    monkeypatch.setattr(falsify, "split", lambda *a: _too_small_a_delta(split(*a)))
    tally = falsify.search("generic", 2000, 0.05, seed=1)
    assert tally.violations > 10
    assert tally.local_violations > 10
    assert tally.worst_slack < -1e-3
    real = examine_module.split_bandit
    monkeypatch.setattr(examine_module, "split_bandit", lambda b: _too_small_a_delta(real(b)))
    climb = falsify.hill_climb(1.0, seed=0, steps=1)
    verdicts = {f.code: f.refuted for f in examine(climb.bandit, runs=20).findings}
    assert verdicts["F2"] is True
    assert verdicts["3"] is True  # the chain rule is broken too, of course
