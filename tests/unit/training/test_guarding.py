"""The guard in real trainings: a collapse ends with the start, a gain with the end, and a resume changes nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from understudy.config import TrainConfig
from understudy.policy import load_policy
from understudy.policy.sampling import draw
from understudy.runs.checkpoint import load_tensors
from understudy.runs.read import checkpoints, read_final, read_ledger, read_metrics
from understudy.specs import parse_spec
from understudy.tasks.classify import ClassifyTask
from understudy.tasks.generated import place
from understudy.training import train as loop
from understudy.training.acting import Actor
from understudy.training.train import train
from understudy.types import Prompt

TASK = "classify:rule=majority,bits=8,relevant=3,classes=2"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A student that is right a little more often than a coin."""
    out = tmp_path_factory.mktemp("base")
    return str(train(phase("sft", "", out, student="scratch:width=16,layers=1,heads=2", updates=60, lr=5e-3)))


def phase(method: str, base: str, out: Path, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "method": method, "student": base, "expert": "labeller:p_right=0.8", "task": TASK, "out": str(out),
        "updates": 20, "prompts_per_update": 64, "eval_every": 0, "final_prompts": 32, "final_samples": 1,
        "eval_splits": "test", "eval_expert": False, "save_every": 5, "device": "cpu", "lr": 1e-4,
    }  # fmt: skip
    return TrainConfig(**(fields | changes))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    x, y = weights(a), weights(b)
    return all(torch.equal(x[n], y[n]) for n in x)


def test_collapse_ends_with_the_start(base: str, tmp_path: Path) -> None:
    """A learning rate that destroys the student within a few updates: the phase stops, the start is restored."""
    train(phase("opd_full", base, tmp_path, lr=30.0, grad_clip=0.0, drift_limit=1e9, seed=1))
    final = read_final(tmp_path)
    assert final is not None
    guard = final["guard"]
    assert guard["state"] == "restored"
    assert guard["step"] == 0
    assert same(tmp_path / "final", Path(base) / "final")
    assert "the start was restored" in guard["reason"]


@pytest.mark.parametrize("save_every", [0, 5, 100])
def test_the_start_is_kept_however_few_checkpoints_are(save_every: int, base: str, tmp_path: Path) -> None:
    """Catches a phase that is shorter than save_every, whose last checkpoint replaces the start's."""
    train(phase("opd_full", base, tmp_path, updates=12, save_every=save_every, keep=1))
    assert (read_final(tmp_path) or {})["guard"]["state"] in ("kept", "restored")


def test_gain_ends_with_the_end(base: str, tmp_path: Path) -> None:
    """The expert of opd_full is right more often than the student: confirmed on fresh prompts, at a cost."""
    train(phase("opd_full", base, tmp_path, lr=3e-3, expert="labeller:p_right=0.97"))
    final, ledger = read_final(tmp_path), read_ledger(tmp_path)
    assert final is not None
    guard = final["guard"]
    assert guard["confirmation"]["verdict"] == "accept", guard
    assert (guard["state"], guard["step"]) == ("kept", 20)
    assert same(tmp_path / "final", checkpoints(tmp_path)[-1])
    own = guard["reference"]["prompts"] + 2 * guard["confirmation"]["prompts"]
    assert ledger["student_tokens_sampled"] == 20 * 64 + own, "one token per completion"
    events = [r["event"] for r in read_metrics(tmp_path, "guard")]
    assert events == ["reference", "conclusion"]


@pytest.mark.parametrize("at", [3, 12])
def test_resume_is_bit_identical(at: int, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed inside an update, before and after its first checkpoint: what the guard has seen comes back."""
    runs = {name: phase("gkd", base, tmp_path / name, lr=3e-3) for name in ("whole", "cut")}
    train(runs["whole"])
    update, calls = loop.update, [0]

    def deadly(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(loop, "update", deadly)
    with pytest.raises(KeyboardInterrupt):
        train(runs["cut"])
    train(runs["cut"])
    a, b = tmp_path / "whole", tmp_path / "cut"
    assert (a / "final.json").read_bytes() == (b / "final.json").read_bytes()
    assert same(a / "final", b / "final")
    assert [p.name for p in checkpoints(a)] == [p.name for p in checkpoints(b)]

    def untimed(path: Path) -> list[Any]:
        return [
            {k: v for k, v in r.items() if k != "ledger" and not k.startswith("seconds")} for r in read_metrics(path)
        ]

    assert untimed(a) == untimed(b)


def test_without_a_verifier(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing says what is right: no reference, no confirmation; the reverse KL runs away: the start is restored."""
    monkeypatch.setattr(ClassifyTask, "verified", False)
    train(phase("opd_full", base, tmp_path, lr=1.0, grad_clip=0.0, drift_limit=1e9, warmup=12))
    final = read_final(tmp_path)
    assert final is not None
    guard = final["guard"]
    assert guard["confirmation"] is None
    assert guard["stopped"]["kind"] == "runaway", guard
    assert guard["state"] == "restored"
    assert guard["step"] < guard["stopped"]["since"]


def small(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """The task has so few training prompts, of which every pass has another order."""
    work = ClassifyTask.prompts

    def prompts(self: ClassifyTask, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        if split != "train":
            return work(self, split, n, seed, start)
        pool = list({p.key: p for p in work(self, split, 8 * rows, 0)}.values())[:rows]
        return [pool[place(rows, i, "rows", seed)] for i in range(start, start + n)]

    monkeypatch.setattr(ClassifyTask, "prompts", prompts)
    monkeypatch.setattr(ClassifyTask, "size", lambda self, split: rows if split == "train" else None)


def test_rows_of_a_small_data_set_are_held_out(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a confirmation on rows that were trained on, and one that never comes where the rows are used up."""
    small(monkeypatch, 160)
    used: dict[str, set[str]] = {"act": set(), "own": set()}
    works = {"act": Actor.act, "own": Actor.own}
    for name, work in works.items():

        def spy(self: Actor, prompts: Any, *rest: Any, name: str = name, work: Any = work) -> Any:
            used[name] |= {p.key.partition("@")[0] for p in prompts}
            return work(self, prompts, *rest)

        monkeypatch.setattr(Actor, name, spy)
    train(phase("opd_full", base, tmp_path, lr=3e-3, expert="labeller:p_right=0.97"))
    guard = (read_final(tmp_path) or {})["guard"]
    assert len(used["own"]) == 32
    assert len(used["act"]) == 160 - 32
    assert not used["own"] & used["act"]
    assert guard["reference"]["prompts"] % 32 == 0
    assert guard["confirmation"]["prompts"] % 32 == 0, "whole passes"
    assert guard["confirmation"]["verdict"] == "accept", guard
    assert "passes over 32 rows that were not trained on" in guard["reason"]


def test_a_tiny_data_set_has_the_alarm_alone(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, 100)
    train(phase("opd_full", base, tmp_path))
    guard = (read_final(tmp_path) or {})["guard"]
    assert guard["confirmation"] is None
    assert guard["reference"]["from"] == "the first updates"


def test_an_adapter_is_restored_to_the_start(base: str, tmp_path: Path) -> None:
    """LoRA: what is restored is the adapter, and an adapter of the start changes nothing."""
    train(phase("opd_full", base, tmp_path, lr=30.0, grad_clip=0.0, drift_limit=1e9, seed=1, lora_rank=2))
    guard = (read_final(tmp_path) or {})["guard"]
    assert (guard["state"], guard["step"]) == ("restored", 0), guard
    task = ClassifyTask.from_spec(parse_spec(TASK, "task"))
    prompts = task.prompts("test", 8, 0)
    scores = []
    for folder in (base, str(tmp_path)):
        policy = load_policy(folder, "student", task.tokenizer(), 0, "cpu")
        encoded = policy.encode(prompts)
        scores.append(draw(policy.start, policy.decode, policy.end_ids, encoded, 4, 0, 1, "student",
                           vocabulary=policy.vocabulary))  # fmt: skip
    assert [r.behavior_logp for r in scores[0]] == [r.behavior_logp for r in scores[1]]


def test_off(base: str, tmp_path: Path) -> None:
    """--no-guard, a phase too short to decide anything, and an offline one."""
    for name, changes in {"no": {"guard": False}, "short": {"updates": 3}}.items():
        train(phase("opd", base, tmp_path / name, **{"updates": 10, **changes}))
        final = read_final(tmp_path / name)
        assert final is not None
        assert final["guard"]["state"] == "off"
        assert next(p.name for p in checkpoints(tmp_path / name)) != "step-00000000"
    assert "guard" not in (read_final(Path(base)) or {})


def test_run_of_an_earlier_version_resumes(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its config.json lacks the fields: it is not refused, and it goes on as it began."""
    c = phase("opd", base, tmp_path, guard=False)
    update, calls = loop.update, [0]

    def deadly(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 8:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(loop, "update", deadly)
    with pytest.raises(KeyboardInterrupt):
        train(c)
    file = tmp_path / "config.json"
    old = {k: v for k, v in json.loads(file.read_text()).items() if not k.startswith("guard")}
    file.write_text(json.dumps(old))
    train(dataclasses.replace(c, guard=True))
    final = read_final(tmp_path)
    assert final is not None
    assert final["guard"]["state"] == "off"
