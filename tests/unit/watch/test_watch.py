"""understudy watch: our own runs and routes, exit status, JSON, a log that grows, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.cli.main import main
from understudy.errors import UserError
from understudy.watch.watch import follow, watch

CONFIG = {
    "method": "opd_full", "behavior": "student", "target": "distribution", "divergence": "kl_student_expert",
    "reduction": "token_mean", "top_k": 0, "updates": 30, "prompts_per_update": 64, "max_new_tokens": 20,
}  # fmt: skip


def train(step: int, **values: Any) -> dict[str, Any]:
    record = {
        "kind": "train", "step": step, "lr": 1e-4, "loss": 0.5, "grad_norm": 1.0, "actor": "student", "reward": 0.5,
        "length": 12.0, "logp_drift": 0.0, "entropy": 0.7, "expert_entropy": 0.5, "at_limit": 0.0, "ended": 1.0,
    }  # fmt: skip
    return record | values


def run(path: Path, records: list[dict[str, Any]], state: str = "running", **config: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG | config))
    (path / "status.json").write_text(json.dumps({"state": state}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def fallen(upto: int = 30) -> list[dict[str, Any]]:
    return [train(i, reward=0.5 if i <= 10 else 0.0) for i in range(1, upto + 1)]


def test_a_run_of_ours(tmp_path: Path):
    (verdict,) = watch(run(tmp_path / "a", fallen(), "done"))
    assert verdict.log.prompts == 64
    assert verdict.log.done
    assert [(f.rule.name, f.found.since) for f in verdict.findings] == [("reward-falls", 11)]
    (same,) = watch(tmp_path / "a" / "metrics.jsonl")
    assert same.log.rows == verdict.log.rows


def test_the_rewards_of_the_expert_say_nothing_about_the_student(tmp_path: Path):
    """gkd: in a part of the updates the expert writes; offline training has no rows of the student at all."""
    own, other = {"actor": "student"}, {"actor": "expert", "reward": 1.0, "at_limit": None}
    mixed = [train(i, **(own if i % 2 else other))
             for i in range(1, 31)]  # fmt: skip
    (verdict,) = watch(run(tmp_path / "a", mixed))
    assert verdict.log.of("reward").values == [0.5] * 15
    (verdict,) = watch(run(tmp_path / "b", [train(i, actor="expert", at_limit=None) for i in range(1, 5)]))
    assert not verdict.log.samples
    assert not verdict.log.has("reward")
    old = {k: v for k, v in train(1).items() if k not in ("actor", "at_limit", "ended")}
    (verdict,) = watch(run(tmp_path / "c", [old], behavior="expert"))
    assert not verdict.log.has("reward")


def test_the_divergence_comes_from_the_loss_or_the_evaluation(tmp_path: Path):
    evaluation = {
        "kind": "eval",
        "step": 0,
        "split": "test",
        "sampled": 0.5,
        "n": 64,
        "length": 20.0,
        "kl_student_expert": 80.0,
    }
    (verdict,) = watch(run(tmp_path / "a", [evaluation, train(1), train(2)]))
    assert verdict.log.of("kl_expert").values == [4.0, 0.5, 0.5]  # 80 nats per sequence of 20 tokens; the losses
    (verdict,) = watch(run(tmp_path / "b", [evaluation, train(1)], divergence="jsd"))
    assert verdict.log.of("kl_expert").values == [4.0]
    assert verdict.log.facts["accuracy_prompts"] == 64


def test_a_route_has_one_verdict_per_phase(tmp_path: Path):
    (tmp_path / "route.json").write_text("{}")
    with pytest.raises(UserError, match="no phase yet"):
        watch(tmp_path)
    run(tmp_path / "phases" / "0-sft", [train(i, actor="expert", at_limit=None) for i in range(1, 5)])
    run(tmp_path / "phases" / "1-opd_full", fallen())
    first, second = watch(tmp_path)
    assert first.findings == ()
    assert second.log.name.endswith("phase 1-opd_full")
    assert [f.rule.name for f in second.findings] == ["reward-falls"]


def test_a_directory_of_auto_is_its_phases(tmp_path: Path):
    """It has a metrics.jsonl of its own, for its last evaluation, and no route.json."""
    run(tmp_path, [{"kind": "eval", "step": 9, "split": "test", "sampled": 0.5, "n": 64, "length": 2.0}], method="auto")
    run(tmp_path / "phases" / "0-sft", [train(i, actor="expert", at_limit=None) for i in range(1, 5)])
    (verdict,) = watch(tmp_path)
    assert verdict.log.name.endswith("phase 0-sft")


def test_a_damaged_line_is_a_note(tmp_path: Path):
    path = run(tmp_path / "a", [train(1), train(2)])
    with (path / "metrics.jsonl").open("a") as f:
        f.write('{"kind": "tra\n{"kind"')
    (verdict,) = watch(path)
    assert len(verdict.log.notes) == 2
    assert len(verdict.log.rows) == 2


def test_exit_status_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bad, good = (
        run(tmp_path / "bad", fallen()),
        run(tmp_path / "good", [train(i, reward=0.02 * i) for i in range(1, 31)]),
    )
    assert main(["watch", str(good)]) == 0
    assert "FOUND" not in capsys.readouterr().out
    assert main(["watch", str(good), str(bad)]) == 1
    text = capsys.readouterr().out
    assert "FOUND    reward-falls, update" in text
    assert "do: go back" in text
    assert main(["watch", str(bad), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    (finding,) = said["findings"]
    assert finding["name"] == "reward-falls"
    assert finding["since"] == 11
    assert not finding["over"]
    assert said["updates"] == [1, 30]
    assert "end-token" in said["clear"]
    assert {"name": "clipping", "missing": "clipped", "hint": ""} in said["not_judged"]


def test_what_is_over_is_shown_and_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    records = [train(i, reward=0.0 if 10 < i <= 15 else 0.5 + 0.002 * i) for i in range(1, 61)]
    assert main(["watch", str(run(tmp_path / "a", records))]) == 0
    assert "is over  reward-falls" in capsys.readouterr().out


def test_follow_reads_a_log_that_grows(tmp_path: Path):
    """New verdicts for new lines only; a first line is waited for; the end of our own run ends it."""
    path = run(tmp_path / "a", [])
    looks = iter([
        lambda: run(path, fallen(8)), lambda: None, lambda: run(path, fallen(20)),
        lambda: run(path, fallen(30), "done"),
    ])  # fmt: skip
    seen = list(follow(path, sleep=lambda _: next(looks)()))
    assert [len(v[0].log.rows) for v in seen] == [8, 20, 30]
    assert [bool(v[0].findings) for v in seen] == [False, True, True]


def test_follow_shows_a_finding_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = run(tmp_path / "a", fallen(8))
    looks = iter([lambda: run(path, fallen(20)), lambda: run(path, fallen(30), "done")])
    monkeypatch.setattr("time.sleep", lambda _: next(looks)())
    assert main(["watch", str(path), "--follow", "--every", "0.01"]) == 1
    assert capsys.readouterr().out.count("FOUND") == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "log: missing"),
        (["nowhere"], "does not exist"),
        (["nowhere", "--follow"], "does not exist"),
        (["a", "b", "--follow"], "follows one log"),
        (["a", "--prompts", "-1"], "prompts: -1: must be at least 0"),
        (["a", "--every", "0"], "every: 0.0: must be positive"),
        (["a", "--folow"], "did you mean --follow"),
    ],
)
def test_bad_input_is_one_line(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]):
    assert main(["watch", *words]) == 2
    error = capsys.readouterr().err
    assert hint in error
    assert error.count("\n") == 1


def test_a_run_without_an_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["watch", str(run(tmp_path / "a", []))]) == 2
    assert "has no update yet" in capsys.readouterr().err
