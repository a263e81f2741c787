"""The expert works while the student does: order of events, the same results, and errors where they can be handled."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import WrappedExpert, config

from understudy.config import resolve
from understudy.errors import UserError
from understudy.experts import LocalExpert
from understudy.experts.entries import EntryExpert, Streamed
from understudy.policy import Policy, load_policy
from understudy.tasks import load_task
from understudy.training.labels import ahead, label
from understudy.training.train import train
from understudy.training.update import update
from understudy.types import Ledger, Prompt, Rollout, Signal

SOON = 20.0  # seconds after which a thread that should work at the same time has failed to


class Apart(WrappedExpert):
    """An expert as on another device: notes when it starts on each micro-batch."""

    def __init__(self, expert: LocalExpert, apart: bool = True) -> None:
        super().__init__(expert)
        self.elsewhere, self.begun = apart, [threading.Event() for _ in range(9)]
        self.threads: list[int] = []

    def apart(self, device: torch.device) -> bool:
        return self.elsewhere

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> Signal:
        self.begun[len(self.threads)].set()
        self.threads.append(threading.get_ident())
        return self.expert.signal(packs)


def learn(models: dict[str, Path], apart: bool, watch: Callable[[Apart, int], None] | None = None) -> tuple[Any, Apart]:
    """(metrics and weights after one update of four micro-batches, the expert)."""
    student = load_policy(str(models["llama"]), "student", device="cpu")
    expert = Apart(LocalExpert(load_policy(str(models["qwen2"]), "expert", device="cpu")), apart)
    c = resolve(config("opd_full", Path("unused"), micro_batch=1))
    prompts = student.encode(load_task("countdown").prompts("train", 4, 0))
    rollouts = [Rollout(p, 0, (5, 6 + i, 7)[: 2 + i % 2], (0.0,) * (2 + i % 2), False, "", "student", 1.0)
                for i, p in enumerate(prompts)]  # fmt: skip
    losses, at = student.losses, [0]

    def seen(*args: Any) -> Any:
        if watch:
            watch(expert, at[0])
        at[0] += 1
        return losses(*args)

    student.losses = seen  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(student.trained().values(), lr=0.1)
    metrics = update(student, optimizer, label(rollouts, c, student, expert, Ledger()), c)
    return (metrics, {n: p.clone() for n, p in student.trained().items()}), expert


def test_the_expert_works_while_the_student_learns(models: dict[str, Path]) -> None:
    """The loss of each micro-batch waits here until the expert has begun with the next one."""

    def watch(expert: Apart, i: int) -> None:
        assert i == 3 or expert.begun[i + 1].wait(SOON), "the expert waits for the student"

    (metrics, weights), expert = learn(models, True, watch)
    assert len(set(expert.threads)) == 1
    assert threading.get_ident() not in expert.threads
    (other, plain), same_device = learn(models, False)
    assert set(same_device.threads) == {threading.get_ident()}
    assert metrics == other
    assert all(torch.equal(weights[n], plain[n]) for n in plain)


def test_no_work_is_started_too_early(models: dict[str, Path]) -> None:
    """Memory: while the student learns from a micro-batch, the expert is at most one ahead."""

    def watch(expert: Apart, i: int) -> None:
        assert i == 3 or expert.begun[i + 1].wait(SOON)
        assert not expert.begun[i + 2].wait(0.02)

    learn(models, True, watch)


def test_errors_arrive_in_order_and_nothing_runs_on() -> None:
    done: list[int] = []

    def job(i: int) -> Callable[[], int]:
        def work() -> int:
            if i == 2:
                raise UserError("expert", "x", "broken")
            done.append(i)
            return i

        return work

    stream = ahead([job(i) for i in range(5)])
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(UserError, match="broken"):
        next(stream)
    assert 4 not in done
    before = threading.active_count()
    short = ahead([job(0), job(1)])
    next(short)
    short.close()
    assert threading.active_count() <= before


def test_control_c_arrives_while_the_student_waits_for_the_expert() -> None:
    release = threading.Event()

    def interrupt(*_: Any) -> None:
        release.set()
        raise KeyboardInterrupt

    def slow() -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return release.wait(SOON)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(ahead([slow]))
        with pytest.raises(KeyboardInterrupt):
            Streamed(Slow([slow]), [ROLLOUT], 2).signal([[0]])
    finally:
        signal.signal(signal.SIGINT, before)


# -- entries that arrive from elsewhere -----------------------------------------------------------------------------

ROLLOUT = Rollout(Prompt("p", "", ids=(1,)), 0, (2, 3), (0.0, 0.0), False, "", "student")


class Slow(EntryExpert):
    """Its steps[i]() is called before the entry of rollout i is known."""

    vocabulary, streams = 5, True

    def __init__(self, steps: Sequence[Callable[[], Any]]) -> None:
        self.steps = steps

    def entries(self, rollouts: Sequence[Rollout], k: int, arrived: Any = None) -> list[dict[str, torch.Tensor]]:
        for i, step in enumerate(self.steps):
            step()
            arrived(i, {"top_ids": torch.full((2, k), i), "top_logp": torch.full((2, k), -1.0)})
        return []


def test_a_signal_waits_for_its_own_rollouts_only() -> None:
    used = threading.Event()
    supervision = Slow([lambda: None, lambda: used.wait(SOON)]).supervise([ROLLOUT] * 2, 2)
    ids, _ = supervision.signal([[0]]).top_k(2, slice(0, 2))
    assert ids.tolist() == [[0, 0], [0, 0]]
    used.set()
    ids, _ = supervision.signal([[1], [0]]).top_k(1, slice(0, 4))
    assert ids.tolist() == [[1], [1], [0], [0]]
    supervision.finish()


def test_errors_of_entries_arrive_where_they_are_waited_for() -> None:
    def broken() -> None:
        raise UserError("expert", "x", "away")

    supervision = Slow([lambda: None, broken]).supervise([ROLLOUT] * 2, 2)
    supervision.signal([[0]])
    with pytest.raises(UserError, match="away"):
        supervision.signal([[1]])
    with pytest.raises(UserError, match="away"):
        supervision.finish()


def test_an_update_that_is_given_up_stops_its_requests() -> None:
    first, later = threading.Event(), []
    supervision = Slow([lambda: first.wait(SOON), lambda: later.append(1)]).supervise([ROLLOUT] * 2, 2)
    supervision.stop()
    first.set()
    supervision.finish()
    assert not later


# -- the option -----------------------------------------------------------------------------------------------------


def test_expert_device(models: dict[str, Path], tmp_path: Path) -> None:
    c = config("opd", tmp_path / "a", device="cpu", expert_device="cuda:1", expert=str(models["qwen2"]))
    assert c.expert_spec.device == "cuda:1"
    assert dataclasses.replace(c, expert_device="").expert_spec.device == "cpu"
    with pytest.raises(UserError, match=r"expert_device: cuda:99: not available here"):
        train(dataclasses.replace(c, expert_device="cuda:99"))
    with pytest.raises(UserError, match=r"expert_device: cpu: .*a server"):
        train(dataclasses.replace(c, expert_device="cpu", expert="http://127.0.0.1:1/v1"))
    with pytest.raises(UserError, match=r"expert_device: cpu: .* write one completion together"):
        train(dataclasses.replace(c, expert_device="cpu", method="dagger", expert="solver"))
    assert not (tmp_path / "a").exists()


def test_a_local_expert_knows_where_it_is(models: dict[str, Path]) -> None:
    policy: Policy = load_policy(str(models["qwen2"]), "expert", device="cpu")
    expert = LocalExpert(policy)
    assert not expert.apart(torch.device("cpu"))
    assert expert.apart(torch.device("cuda:0"))
