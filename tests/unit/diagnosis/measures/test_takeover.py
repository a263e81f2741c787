"""Takeover: another policy continues from a prefix of the student, which is kept to the token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from understudy.diagnosis.measures.takeover import DEPTHS, Forced, continued, cut
from understudy.experts import LocalExpert, load_expert
from understudy.policy import Policy, load_policy
from understudy.policy.sampling import draw
from understudy.tasks import load_task
from understudy.types import Prompt, Rollout


@pytest.fixture(scope="module")
def student(models: dict[str, Path]) -> Policy:
    return load_policy(str(models["llama"]), "student", device="cpu")


def drawn(policy: Policy, n: int = 12, room: int = 24) -> list[Rollout]:
    prompts = policy.encode(load_task("countdown").prompts("train", n, 3))
    return draw(policy.start, policy.decode, policy.end_ids, prompts, 1, 7, room, "student")


def test_a_cut_never_holds_the_end_token() -> None:
    p = Prompt("a", "a", ids=(1,))
    ended = Rollout(p, 0, (5, 6, 7, 1), (0.0,) * 4, True, "", "student")
    assert [cut(ended, d) for d in (0, 25, 50, 75, 100)] == [(), (5,), (5, 6), (5, 6, 7), (5, 6, 7)]
    assert cut(Rollout(p, 0, (1,), (0.0,), True, "", "student"), 75) == ()


@pytest.mark.parametrize("depth", [0, *DEPTHS])
def test_the_prefix_is_the_students_and_the_rest_is_drawn(student: Policy, depth: int) -> None:
    before = drawn(student)
    after = continued(student.start, student.decode, student.end_ids, before, depth, 11, 24, "expert")
    changed = 0
    for old, new in zip(before, after, strict=True):
        k = len(cut(old, depth))
        assert new.ids[:k] == old.ids[:k]
        assert new.prompt.ids == old.prompt.ids
        assert len(new.ids) <= 24
        # the rest is drawn from the wrapped policy: the recorded log-probs are those of that policy
        scored = student.score([new])[0][k:]
        torch.testing.assert_close(scored, torch.tensor(new.behavior_logp[k:]), atol=1e-4, rtol=0)
        changed += new.ids != old.ids
    assert changed  # other random numbers than the student's own


def test_both_actors_use_the_same_random_numbers(student: Policy) -> None:
    before = drawn(student)
    one, two = (
        continued(start, student.decode, student.end_ids, before, 50, 11, 24, "x")
        for start in (student.start, LocalExpert(student).start)
    )
    assert [r.ids for r in one] == [r.ids for r in two]


def test_an_honest_solver_saves_the_students_wrong_beginnings() -> None:
    """An expert that recovers has a high takeover value: it answers even from prefixes of wrong completions."""
    task = load_task("countdown")
    policy = load_policy("scratch:width=16,layers=1,heads=2,context=128", "student", task.tokenizer(), device="cpu")
    expert = load_expert("solver", task, policy)
    prompts = policy.encode(task.prompts("train", 20, 5))
    spoiled = [
        Rollout(p, 0, tuple(policy.tokenizer("1+1=2+", add_special_tokens=False)["input_ids"]), (0.0,) * 6, False, "",
                "student")
        for p in prompts
    ]  # fmt: skip
    done = task.verify_all(continued(expert.start, policy.decode, policy.end_ids, spoiled, 75, 1, 120, "expert"))
    assert sum(r.reward or 0 for r in done) >= 15
    assert all(r.text.startswith("1+1=") for r in done)


def test_forced_rows_leave_in_order() -> None:
    class Uniform:
        def __init__(self, rows: int) -> None:
            self.rows = rows

        def next_logits(self) -> torch.Tensor:
            return torch.full((self.rows, 4), 0.25).log()

        def advance(self, tokens: torch.Tensor) -> None:
            assert len(tokens) == self.rows

        def keep(self, rows: torch.Tensor) -> None:
            self.rows = len(rows)

    steps = Forced(Uniform(3), [(1,), (2, 3), ()])
    assert steps.next_logits().exp().tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0.25] * 4]
    steps.keep(torch.tensor([1, 2]))
    steps.advance(torch.tensor([2, 0]))
    assert steps.next_logits().exp().tolist() == [[0, 0, 0, 1], [0.25] * 4]
