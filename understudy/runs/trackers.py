"""Training curves in TensorBoard, Weights & Biases or Trackio, beside metrics.jsonl, which stays the record.

Off by default, and imported only when requested. A key for a service comes from the service's own environment
variable or login. A tracker that fails later is reported once and then left out: the run goes on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from understudy.errors import UserError, without_secrets

INSTALL = {
    "tensorboard": ("tensorboard", "pip install 'understudy[tensorboard]'"),
    "wandb": ("wandb", "pip install 'understudy[wandb]'"),
    "trackio": ("trackio", "pip install 'understudy[trackio]'"),
}
"""Name -> (the module that it needs, how to install it)."""


class Tracker(Protocol):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after `step` updates."""
        ...

    def table(self, step: int, name: str, rows: Sequence[Sequence[Any]]) -> None:
        """Completions after `step` updates; the columns are COLUMNS."""
        ...

    def close(self) -> None: ...


def names_of(text: str) -> list[str]:
    """The names in a list such as `tensorboard,wandb`. UserError for one that is unknown or not installed."""
    names = list(dict.fromkeys(n.strip() for n in text.split(",") if n.strip()))
    for name in names:
        if name not in INSTALL:
            raise UserError("tracker", name, f"unknown; one of {', '.join(INSTALL)}")
        module, how = INSTALL[name]
        if importlib.util.find_spec(module) is None:
            raise UserError("tracker", name, f"is not installed: {how}")
    return names


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one line of metrics.jsonl: train/loss, eval/test/sampled, eval/test/expert/sampled, ledger/..."""
    kind = str(record.get("kind", ""))
    place = f"{kind}/{record['split']}" if "split" in record else kind
    out: dict[str, float] = {}
    for name, value in record.items():
        if name == "expert" and isinstance(value, Mapping):
            out |= {f"{place}/expert/{k}": float(v) for k, v in value.items() if _is_number(v)}
        elif name == "ledger" and isinstance(value, Mapping):
            out |= {f"ledger/{k}": float(v) for k, v in value.items() if _is_number(v)}
        elif name != "step" and _is_number(value):
            out[f"{place}/{name}"] = float(value)
    return out


COLUMNS = ("step", "actor", "prompt", "completion", "reward", "ended")
"""Of a table of completions."""


def tables(records: Iterable[Mapping[str, Any]]) -> dict[tuple[int, str], list[list[Any]]]:
    """Records of samples.jsonl as tables: (step, "samples/test") -> rows of COLUMNS."""
    out: dict[tuple[int, str], list[list[Any]]] = {}
    for record in records:
        row = [record.get(name) for name in COLUMNS]
        out.setdefault((int(record["step"]), f"samples/{record['split']}"), []).append(row)
    return out


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class Trackers:
    """All trackers of one run; `on_record` is called with every record that the run logs."""

    def __init__(self, trackers: Mapping[str, Tracker], note: Callable[[str], None]) -> None:
        self.trackers, self.note = dict(trackers), note

    def on_record(self, record: Mapping[str, Any]) -> None:
        if "step" in record:
            values = numbers(record)
            self._each(lambda tracker: tracker.log(int(record["step"]), values))

    def on_samples(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Completions, as a table per step and split."""
        for (step, name), rows in tables(records).items():
            self._each(lambda tracker: tracker.table(step, name, rows))  # noqa: B023  called at once

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                act(tracker)
            except Exception as error:  # a service may fail in any way
                del self.trackers[name]
                reason = without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:200]
                self.note(f"tracker {name} failed and gets no more: {reason}; metrics.jsonl has everything")

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_trackers(text: str, run: Path, config: Mapping[str, Any], step: int, note: Callable[[str], None]) -> Trackers:
    """The trackers that `text` names, for a run that continues from `step`."""
    trackers: dict[str, Tracker] = {}
    for name in names_of(text):
        try:
            trackers[name] = _TRACKERS[name](run, config, step)
        except Exception as error:  # no network, no login, a broken install
            reason = without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:200]
            raise UserError("tracker", name, f"cannot start: {reason}") from error
    return Trackers(trackers, note)


class _TensorBoard:
    """Event files in tensorboard/ of the run directory: `tensorboard --logdir runs`."""

    def __init__(self, run: Path, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # hide what a killed run wrote after its last checkpoint
        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def table(self, step: int, name: str, rows: Sequence[Sequence[Any]]) -> None:
        # indented text is shown as it is: model text must not become Markdown
        texts = ("\n".join(f"{k}: {v}" for k, v in zip(COLUMNS, row)) for row in rows)
        self.writer.add_text(name, "\n\n".join(textwrap.indent(text, "    ", lambda _: True) for text in texts), step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    """A Weights & Biases run, continued by a resume. WANDB_PROJECT, WANDB_MODE and the like apply."""

    def __init__(self, run: Path, config: Mapping[str, Any], step: int) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "understudy"),
            name=run.name,
            id=_id(run),
            resume="allow",
            config=dict(config),
            dir=str(run),
        )
        # W&B's own step may not go back, which a resumed run does
        self.run.define_metric("update")
        self.run.define_metric("*", step_metric="update")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({**values, "update": step})

    def table(self, step: int, name: str, rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        self.run.log({name: wandb.Table(columns=list(COLUMNS), data=[list(row) for row in rows]), "update": step})

    def close(self) -> None:
        self.run.finish()


class _Trackio:
    """A Trackio run, continued by a resume."""

    def __init__(self, run: Path, config: Mapping[str, Any], step: int) -> None:
        import trackio

        self.trackio = trackio
        trackio.init(project="understudy", name=_id(run), config=dict(config), resume="allow")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.trackio.log(dict(values), step=step)

    def table(self, step: int, name: str, rows: Sequence[Sequence[Any]]) -> None:
        self.trackio.log({name: self.trackio.Table(columns=list(COLUMNS), data=[list(row) for row in rows])}, step=step)

    def close(self) -> None:
        self.trackio.finish()


_TRACKERS: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "trackio": _Trackio,
}


def _id(run: Path) -> str:
    """A name that is the same after a resume and differs between folders of the same name."""
    return f"{run.name}-{hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:8]}"
