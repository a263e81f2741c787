"""Replay fixed samples some updates ahead: the same completions as all at once, and none that nobody uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import config

from understudy.config import resolve
from understudy.errors import UserError
from understudy.runs.read import read_final, read_ledger
from understudy.tasks import load_task
from understudy.training import acting, session
from understudy.training.rollouts import RolloutSource, kept_rollouts, samples_are_kept
from understudy.training.train import train


def in_chunks(monkeypatch: pytest.MonkeyPatch, updates: int) -> None:
    """So many updates of 4 prompts are sampled together."""
    monkeypatch.setattr(acting, "CHUNK", 1)
    monkeypatch.setattr(acting, "AT_ONCE", 4 * updates)


def files(out: Path) -> list[str]:
    return sorted(path.stem for path in (out / "data").glob("*.safetensors"))


@pytest.mark.parametrize("method", ["sft", "word_kd"])
def test_chunks_change_no_number(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a chunk whose prompts or samples are another one's, and a cost that is counted twice or not at all."""
    whole = train(config(method, tmp_path / "whole", updates=5))
    in_chunks(monkeypatch, 2)
    parts = train(config(method, tmp_path / "parts", updates=5))
    assert (files(whole), files(parts)) == (["fixed-0000"], ["fixed-0000", "fixed-0001", "fixed-0002"])
    weights = [(out / "final/model.safetensors").read_bytes() for out in (whole, parts)]
    assert weights[0] == weights[1]
    assert read_final(whole) == read_final(parts)
    spent = [{k: v for k, v in read_ledger(out).items() if "seconds" not in k} for out in (whole, parts)]
    assert spent[0] == spent[1]
    c = resolve(config(method, parts, updates=5))
    task = load_task("coin")
    student = session.load_model(c.student, "student", c, task)
    kept = kept_rollouts(c, task, student, parts)
    in_chunks(monkeypatch, 2048)
    assert kept == kept_rollouts(c, task, student, whole)
    assert len({r.prompt.key for r in kept}) == 5 * 4


def test_nothing_is_sampled_that_no_update_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that ends the run after three of forty updates has sampled the completions of four."""
    in_chunks(monkeypatch, 2)
    out = train(config("sft", tmp_path / "r", updates=40, budget_axis="expert_calls", budget=20))
    assert read_ledger(out)["updates"] == 3
    assert files(out) == ["fixed-0000", "fixed-0001"]
    assert not samples_are_kept(resolve(config("sft", out, updates=40)), out)
    assert samples_are_kept(resolve(config("sft", out, updates=4)), out)


def test_a_run_that_an_earlier_version_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data/fixed.safetensors holds everything: it is used, and no expert is loaded for it."""
    want = train(config("sft", tmp_path / "new", updates=5))
    old = tmp_path / "old"
    with monkeypatch.context() as patch:
        patch.setattr(RolloutSource, "_whole", True)
        patch.setattr("understudy.training.train.check_finite", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config("sft", old, updates=5))
    assert files(old) == ["fixed"]
    in_chunks(monkeypatch, 2)
    monkeypatch.setattr(session, "load_expert", lambda *args: pytest.fail("an expert was loaded"))
    assert (train(config("sft", old, updates=5)) / "final/model.safetensors").read_bytes() == (
        want / "final/model.safetensors"
    ).read_bytes()
    assert files(old) == ["fixed"]


def test_a_pool_is_sampled_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_chunks(monkeypatch, 1)
    out = train(config("sft", tmp_path / "r", updates=4, prompt_pool=8))
    assert files(out) == ["fixed"]
    assert read_ledger(out)["expert_calls"] == 8 * 2


def test_a_damaged_chunk_is_no_data(tmp_path: Path) -> None:
    c = config("sft", tmp_path / "r", updates=2)
    out = train(c)
    path = out / "data" / "fixed-0000.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    task = load_task("coin")
    student = session.load_model(c.student, "student", resolve(c), task)
    with pytest.raises(UserError, match="is damaged"):
        kept_rollouts(resolve(c), task, student, out)


def test_prompts_begin_where_they_should(tmp_path: Path) -> None:
    """Catches a place in the stream that random numbers do not follow: first_prompt=4 is the second update of 4."""
    task = load_task("coin")
    c = resolve(config("sft", tmp_path / "r", updates=2))
    student = session.load_model(c.student, "student", c, task)
    first = acting.PromptStream(c, task, student)
    second = acting.PromptStream(resolve(config("sft", tmp_path / "r", updates=2, first_prompt=4)), task, student)
    assert second.take(0, 4) == first.take(4, 4)
    assert second.indices(0, 2) == first.indices(0, 2)
