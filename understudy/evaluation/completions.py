"""The completions of an evaluation, kept as they are drawn, and what they amount to.

DIR/
  config.json provenance.json status.json    as of any run
  completions.jsonl                          a line per completion: prompt, what the model read, completion, reward
  results.json                               measures with intervals, once all are there
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import UserError
from understudy.evaluation import intervals
from understudy.evaluation.config import VOLATILE, EvalConfig
from understudy.runs.directory import RunDir
from understudy.runs.files import dumps, os_errors_explained, write_bytes, write_json
from understudy.runs.provenance import provenance
from understudy.runs.read import read_lines

COMPLETIONS, RESULTS = "completions.jsonl", "results.json"
Row = dict[str, Any]
"""A line: prompt_number, key, kind (sampled or greedy), sample, prompt, rendered, completion, reward, ended, tokens."""


class Completions:
    """All rows that are there, and the directory that keeps them, if there is one."""

    def __init__(self, prompts: int, run: RunDir | None = None, rows: Sequence[Row] = ()) -> None:
        self.prompts, self.run, self.rows = prompts, run, list(rows)
        self.complete = {row["prompt_number"] for row in self.rows}
        """Numbers of the prompts whose completions are all there."""

    @classmethod
    @contextmanager
    def opened(cls, config: EvalConfig, digest: str, prompts: int) -> Iterator[Completions]:
        """Those in config.out, begun or resumed; without it, in memory. digest: of the task's data.

        UserError: the directory holds another evaluation or something else, or another process writes it.
        """
        if not config.out:
            yield cls(prompts)
            return
        fields = dataclasses.asdict(config)
        recorded = {k: v for k, v in fields.items() if k not in VOLATILE} | {"command": "eval", "data": digest}
        with RunDir.open(config.out, recorded, lambda: provenance(device=config.device)) as run:
            run.restore()
            yield cls(prompts, run, _kept(run.path / COMPLETIONS, config.samples, prompts))

    def add(self, rows: Sequence[Row]) -> None:
        """All completions of some prompts."""
        self.rows += rows
        self.complete |= {row["prompt_number"] for row in rows}
        if self.run is not None:
            self.run.append(COMPLETIONS, rows)
            self.run.status("running", step=len(self.complete))

    def finish(self, result: dict[str, Any]) -> None:
        """Write the results."""
        if self.run is not None:
            with os_errors_explained(self.run.path):
                write_json(self.run.path / RESULTS, result | {"config": self.run.config})
            self.run.status("done")

    @property
    def shown(self) -> str:
        """Accuracy so far, for the progress."""
        rewards = [row["reward"] for row in self.rows if row["kind"] == "sampled" and row["reward"] is not None]
        return f"accuracy {sum(rewards) / len(rewards):.2f} so far" if rewards else ""


def _kept(path: Path, samples: int, prompts: int) -> list[Row]:
    """The rows of prompts that are complete; the file is cut to them, as its end may be half written."""
    notes: list[str] = []
    by_prompt: dict[int, list[Row]] = {}
    for row in read_lines(path, notes):
        number = row.get("prompt_number")
        if isinstance(number, int) and number < prompts and row.get("kind") in ("sampled", "greedy"):
            by_prompt.setdefault(number, []).append(row)
    rows = [row for some in by_prompt.values() if _is_whole(some, samples) for row in some]
    if path.exists():
        with os_errors_explained(path.parent):
            write_bytes(path, b"".join(map(dumps, rows)))
    return rows


def _is_whole(rows: Sequence[Row], samples: int) -> bool:
    """Whether these are all completions of a prompt, each once: the greedy one, where there is one, comes first."""
    sampled = sorted(row.get("sample", -1) for row in rows if row["kind"] == "sampled")
    return sampled == list(range(samples)) and {"reward", "ended", "tokens"} <= set.intersection(*map(set, rows))


def summary(rows: Sequence[Row], samples: int, ks: Sequence[int], passes: float = 1.0) -> dict[str, Any]:
    """Measures with bootstrap intervals over prompts; none where completions have no reward.

    passes: the reward from which a completion counts for pass@k.
    """
    rows = sorted(rows, key=lambda row: (row["prompt_number"], row["sample"]))
    sampled = [row for row in rows if row["kind"] == "sampled"]
    greedy = [row for row in rows if row["kind"] == "greedy"]
    measures: dict[str, Any] = {}
    if sampled and all(row["reward"] is not None for row in rows):
        rewards = np.array([row["reward"] for row in sampled], dtype=float).reshape(-1, samples)
        per_prompt = {"greedy": np.array([row["reward"] for row in greedy], dtype=float)} if greedy else {}
        per_prompt[f"avg@{samples}"] = intervals.avg_at_k(rewards)
        per_prompt |= {f"pass@{k}": intervals.pass_at_k((rewards >= passes).astype(float), k) for k in ks}
        for name, values in per_prompt.items():
            i = intervals.bootstrap_prompts(values)
            measures[name] = {"value": i.value, "low": i.low, "high": i.high}
    if not sampled:
        raise UserError("prompts", 0, "there is no prompt to evaluate on")
    tokens = [row["tokens"] for row in sampled]
    return {
        "measures": measures, "prompts": len(sampled) // samples, "samples": samples,
        "length": float(np.mean(tokens)), "longest": max(tokens), "tokens": sum(row["tokens"] for row in rows),
        "ended": float(np.mean([row["ended"] for row in sampled])),
    }  # fmt: skip
