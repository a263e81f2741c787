"""An evaluation becomes a log of Inspect and results of lm-eval: fields as their readers want them, numbers by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.cli.main import main
from understudy.errors import UserError
from understudy.evaluation.exchange import TARGETS, write_exchange
from understudy.export.config import EVALUATION_TARGETS

CONFIG = {
    "model": "me/model", "task": "countdown:max_number=9", "split": "test", "prompts": 2, "samples": 2,
    "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 0, "seed": 3, "eval_seed": 0, "device": "cpu",
    "dtype": "float32", "trust_remote_code": False, "command": "eval", "data": "abc",
}  # fmt: skip


def evaluation(folder: Path, graded: bool = True, **config: Any) -> Path:
    """Two prompts; the rewards of their samples are 1, 0 and 1, 1; greedy 0 and 1."""
    rows = []
    for number, rewards in enumerate([(1.0, 0.0), (1.0, 1.0)]):
        greedy = [("greedy", -1, float(number))]
        for kind, sample, reward in [*greedy, *(("sampled", i, r) for i, r in enumerate(rewards))]:
            rows.append({
                "prompt_number": number, "key": f"k{number}", "kind": kind, "sample": sample, "prompt": f"p{number}",
                "rendered": f"<s>p{number}", "completion": f"c{number}{sample}", "reward": reward if graded else None,
                "ended": sample != 1, "tokens": 4,
            })  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "provenance.json").write_text(
        '{"started": "2026-11-30T12:00:05+00:00", "versions": {"understudy": "0.1"}}'
    )
    (folder / "status.json").write_text('{"state": "done"}')
    measures = {"avg@2": {"value": 0.75, "low": 0.5, "high": 1.0}, "pass@2": {"value": 1.0, "low": 1.0, "high": 1.0}}
    (folder / "results.json").write_text(json.dumps({"measures": measures if graded else {}, "prompts": 2}))
    (folder / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    return folder


def test_an_inspect_log(tmp_path: Path):
    files = write_exchange(evaluation(tmp_path / "e"), "inspect", tmp_path / "out")
    sampled, greedy = (json.loads(path.read_text()) for path in files)
    assert [p.name.split("_")[:2] for p in files] == [
        ["2026-11-30T12-00-05", "countdown-test"], ["2026-11-30T12-00-05", "countdown-test-greedy"]
    ]  # fmt: skip
    assert (sampled["version"], sampled["status"], sampled["eval"]["task"]) == (2, "success", "countdown_test")
    assert sampled["eval"]["model_generate_config"] == {"seed": 3, "temperature": 0.7, "top_p": 0.9}
    assert greedy["eval"]["model_generate_config"]["temperature"] == 0.0
    assert sampled["eval"]["config"]["epochs"] == 2
    samples = sampled["samples"]
    assert [(s["id"], s["epoch"], s["scores"]["reward"]["value"]) for s in samples] == [
        (1, 1, 1.0), (1, 2, 0.0), (2, 1, 1.0), (2, 2, 1.0)
    ]  # fmt: skip
    assert samples[1]["output"]["choices"][0]["stop_reason"] == "max_tokens"
    assert samples[0]["messages"][1]["content"] == samples[0]["output"]["completion"] == "c00"
    metrics = {name: m["value"] for name, m in sampled["results"]["scores"][0]["metrics"].items()}
    # the means of the prompts are .5 and 1: their mean .75, its standard error sqrt(.125 / 2)
    assert metrics == {"reward": 0.75, "stderr": 0.25, "avg@2": 0.75, "pass@2": 1.0}
    assert greedy["results"]["scores"][0]["metrics"]["reward"]["value"] == 0.5


def test_lm_eval_files(tmp_path: Path):
    results, samples = write_exchange(evaluation(tmp_path / "e"), "lm-eval", tmp_path / "out")
    assert results.relative_to(tmp_path) == Path("out/me__model/results_2026-11-30T12-00-05.json")
    assert samples.name == "samples_countdown_test_2026-11-30T12-00-05.jsonl"
    said = json.loads(results.read_text())
    assert said["results"]["countdown_test"] == {
        "name": "countdown_test", "alias": "countdown_test", "sample_len": 2, "reward,none": 0.75,
        "reward_stderr,none": 0.25, "reward,greedy": 0.5, "reward_stderr,greedy": 0.5, "pass@2,none": 1.0,
    }  # fmt: skip
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [(r["doc_id"], r["filter"], r["reward"], r["resps"]) for r in rows] == [
        (0, "none", 0.5, [["c00", "c01"]]), (1, "none", 1.0, [["c10", "c11"]]), (0, "greedy", 0.0, [["c0-1"]]),
        (1, "greedy", 1.0, [["c1-1"]]),
    ]  # fmt: skip
    assert rows[0]["arguments"]["gen_args_0"]["arg_0"] == "<s>p0"
    assert rows[0]["doc"] == {"key": "k0", "prompt": "p0"}


@pytest.mark.parametrize("to", TARGETS)
def test_without_rewards_no_score_is_made_up(tmp_path: Path, to: str):
    files = write_exchange(evaluation(tmp_path / "e", graded=False), to, tmp_path / "out")
    text = "".join(path.read_text() for path in files)
    assert '"reward"' not in text
    assert "reward,none" not in text


def test_inspect_reads_its_log(tmp_path: Path):
    """Its own reader, where inspect_ai is installed."""
    log = pytest.importorskip("inspect_ai.log")
    write_exchange(evaluation(tmp_path / "e"), "inspect", tmp_path / "out")
    found = log.list_eval_logs(str(tmp_path / "out"))
    assert len(found) == 2
    for info in found:
        read = log.read_eval_log(info)
        assert read.status == "success"
        assert read.results.scores[0].metrics["reward"].value in (0.75, 0.5)
        assert read.samples[0].output.completion.startswith("c0")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = evaluation(tmp_path / "e")
    assert main(["export", str(folder), "--to", "inspect"]) == 0
    assert len(list((tmp_path / "e-inspect").glob("*.json"))) == 2
    assert set(EVALUATION_TARGETS) == set(TARGETS)
    for words, hint in (
        ([str(folder), "--to", "inspect"], "exists already"),
        ([str(tmp_path / "no"), "--to", "lm-eval"], "does not exist"),
        ([str(tmp_path), "--to", "lm-eval"], "is no evaluation"),
        (["--to", "lm-eval"], "takes one folder"),
        ([str(folder), "--to", "trl"], "is an evaluation: --to inspect or lm-eval"),
    ):
        capsys.readouterr()
        assert main(["export", *words]) == 2
        error = capsys.readouterr().err
        assert hint in error
        assert error.count("\n") == 1


def test_an_unfinished_evaluation_is_refused(tmp_path: Path):
    folder = evaluation(tmp_path / "e")
    (folder / "results.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        write_exchange(folder, "inspect", tmp_path / "out")
    assert not (tmp_path / "out").exists()
