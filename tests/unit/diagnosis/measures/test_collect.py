"""Collected scores equal a slow reference; prompts differ from those of the pilots; a resume repeats no call."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from tiny import CountingExpert

from understudy.diagnosis.cost import Sizes
from understudy.diagnosis.measures import evidence
from understudy.diagnosis.measures.collect import Setting, Table, collect, compared, draw_prompts, takeover
from understudy.diagnosis.types import MEASURES
from understudy.evaluation.sampled import sequence_kl
from understudy.experts import LocalExpert, load_expert
from understudy.policy import load_policy
from understudy.protocols import Expert
from understudy.runs.directory import RunDir
from understudy.tasks import load_task


@pytest.fixture
def setting(models: dict[str, Path]) -> Setting:
    task = load_task("coin")
    student = load_policy(str(models["llama"]), "student", device="cpu")
    expert = LocalExpert(load_policy(str(models["qwen2"]), "expert", device="cpu"))
    return Setting(task, student, expert, Sizes(10.0, 100.0), 12, 0, True)


def directory(path: Path) -> RunDir:
    return RunDir.open(path / "run", {"a": 1})


def tables(setting: Setting, path: Path, n: int = 10) -> tuple[Table, Table]:
    with directory(path) as run:
        prompts, _ = draw_prompts(setting, n, 32)
        return (
            collect(setting, run, prompts, 3, "student", "student"),
            collect(setting, run, prompts, 2, "expert", "expert"),
        )


def test_both_sides_are_scored_as_one_by_one(setting: Setting, tmp_path: Path) -> None:
    for actor, table in zip(("student", "expert"), tables(setting, tmp_path)):
        assert table.reward.shape == (10, table.samples)
        for name, policy in (("student_logp", setting.student), ("expert_logp", setting.expert)):
            slow = [float(policy.score([r])[0].sum()) for r in table.rollouts]
            np.testing.assert_allclose(getattr(table, name).ravel(), slow, atol=1e-3)
        first, second = (setting.student, setting.expert)[:: 1 if actor == "student" else -1]
        slow = sequence_kl(first, second, table.rollouts)
        np.testing.assert_allclose(table.kl.ravel(), slow, rtol=1e-4)


def test_an_expert_that_only_scores_gives_the_same_scores(setting: Setting, tmp_path: Path) -> None:
    class Scores(Expert):
        capabilities = frozenset({"sample", "score"})
        score = staticmethod(setting.expert.score)

    full, _ = tables(setting, tmp_path)
    part = compared(setting, setting.student, Scores(), full.rollouts, "student")
    np.testing.assert_allclose(part["expert_logp"], full.expert_logp.ravel(), atol=1e-3)
    assert np.isnan(part["kl"]).all()


def test_prompts_leave_out_what_pilots_train_on(setting: Setting) -> None:
    seen = {p.text for p in setting.task.prompts("train", 200, setting.seed)}
    prompts, shared = draw_prompts(setting, 40, 200)
    assert shared == 0
    assert not seen & {p.text for p in prompts}
    assert len({p.key for p in prompts}) == 40
    test = {p.text for split in ("test", "ood") for p in setting.task.prompts(split, 400, 0)}
    assert not test & {p.text for p in prompts}


def test_a_task_of_few_problems_keeps_its_distribution_and_says_so(setting: Setting) -> None:
    small = dataclasses.replace(setting, task=load_task("coin:n_numbers=2,max_number=3"))
    prompts, shared = draw_prompts(small, 40, 200)
    assert shared > 0
    assert len({p.key for p in prompts}) == 40  # the same problem twice is drawn from twice


def test_a_resume_repeats_no_call(setting: Setting, tmp_path: Path) -> None:
    counting = CountingExpert(setting.expert)
    one = dataclasses.replace(setting, expert=counting)
    before = tables(one, tmp_path)
    counts = (counting.calls, counting.sampled, counting.scored)
    assert counting.sampled == before[1].cost.expert_tokens_sampled
    assert counting.scored == before[0].cost.expert_tokens_scored + before[1].cost.expert_tokens_scored
    after = tables(one, tmp_path)
    assert (counting.calls, counting.sampled, counting.scored) == counts
    assert [t.rollouts for t in before] == [t.rollouts for t in after]
    assert [t.cost for t in before] == [t.cost for t in after]


def test_takeover_is_paired_and_paid_for(setting: Setting, tmp_path: Path) -> None:
    student, _ = tables(setting, tmp_path)
    with directory(tmp_path) as run:
        pairs, cost = takeover(setting, run, student)
    assert sorted(pairs) == [25, 50, 75]
    assert all(x.shape == (10,) for pair in pairs.values() for x in pair)
    assert cost.expert_tokens_sampled > 0
    # the student as its own expert gains exactly nothing
    self_expert = dataclasses.replace(setting, expert=LocalExpert(setting.student))
    with RunDir.open(tmp_path / "own", {}) as run:
        pairs, _ = takeover(self_expert, run, student)
    assert all((a == b).all() for a, b in pairs.values())


def test_measures_have_canonical_names_in_order(setting: Setting, tmp_path: Path) -> None:
    student, expert = tables(setting, tmp_path)
    with directory(tmp_path) as run:
        taken, _ = takeover(setting, run, student)
    measures = evidence.measures(student, expert, taken)
    with_pilots = ("expert_at_work", "online_accuracy", "online_trend")
    assert (*measures, *with_pilots) == MEASURES
    assert all(e.low <= e.value <= e.high or np.isnan(e.value) for e in measures.values())
    series = evidence.series(setting.task, student, expert)
    assert len(series["scatter"]) == 30
    assert sum(series["lengths"]["student"]) == 30


def test_without_reward_or_scores_nothing_is_made_up(setting: Setting, tmp_path: Path) -> None:
    black = load_expert("good", setting.task, setting.student)
    blind = dataclasses.replace(setting, expert=black, reward=False)
    student, expert = tables(blind, tmp_path)
    measures = evidence.measures(student, expert, {})
    assert not measures
    assert "scatter" not in evidence.series(blind.task, student, expert)


def test_the_sampled_kl_and_the_exact_one_agree(setting: Setting, tmp_path: Path) -> None:
    with directory(tmp_path) as run:
        prompts, _ = draw_prompts(setting, 60, 32)
        table = collect(setting, run, prompts, 8, "student", "student")
    sampled = table.student_logp - table.expert_logp
    gap = sampled.mean(1) - table.kl.mean(1)
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))
    assert table.kl.std() < sampled.std()  # Rao-Blackwell


def test_no_two_samples_share_their_random_numbers(setting: Setting, tmp_path: Path) -> None:
    student, _ = tables(setting, tmp_path)
    ids = [r.ids for r in student.rollouts]
    assert all(a != b for a, b in itertools.combinations(ids, 2))
