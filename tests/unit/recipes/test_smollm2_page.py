"""The page of the real model's results: from finished runs alone, verdicts that follow from the intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import smollm2
from understudy.evaluation.intervals import Interval


def run(folder: Path, rewards: list[int], done: bool = True) -> None:
    folder.mkdir(parents=True)
    keys = [f"p{(i * 7) % len(rewards)}" for i in range(len(rewards))]  # in another order than their numbers
    splits = {"test": {"keys": keys, "sampled": [[x] for x in rewards], "greedy": rewards}}
    (folder / "ledger.json").write_text(json.dumps({"flops": 2e12}))
    if done:
        (folder / "final.json").write_text(json.dumps({"splits": splits}))
        (folder / "final").mkdir()
        (folder / "status.json").write_text(json.dumps({"state": "done"}))


def test_only_finished_runs_count(tmp_path: Path) -> None:
    for seed in (0, 1):
        run(tmp_path / f"seed-{seed}/sft-answerer", [0] * 20)
        run(tmp_path / f"seed-{seed}/opd_full-answerer", [1] * 20)
        run(tmp_path / f"seed-{seed}/sft-self", [0, 1] * 10, done=False)
    measured = tmp_path / "measures/base-test"
    measured.mkdir(parents=True)
    (measured / "results.json").write_text("{}")
    rows = [{"key": f"p{i}", "kind": kind, "reward": 1.0} for i in range(20) for kind in ("greedy", "sampled")]
    (measured / "completions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = smollm2.page(tmp_path)
    assert "4 of 24 runs" in text
    assert "**shown**. OPD minus SFT at equal FLOPs +100.0 [+100.0, +100.0] points, sampled (2 seeds)" in text
    assert "Within reach, online adds nothing to offline: no pair of runs has finished." in text
    assert "| sft minus the model before training | −100.0 [−100.0, −100.0] |" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("low", "high", "gain", "verdict"),
    [
        (0.01, 0.2, True, "shown"), (-0.1, 0.1, True, "open"), (-0.3, -0.1, True, "contradicted"),
        (-0.01, 0.02, False, "shown"), (-0.1, 0.1, False, "open"), (0.03, 0.1, False, "contradicted"),
    ],
)  # fmt: skip
def test_verdicts_follow_from_intervals(low: float, high: float, gain: bool, verdict: str) -> None:
    assert smollm2.word(Interval((low + high) / 2, low, high, 96, 3, 0.95), gain) == verdict
