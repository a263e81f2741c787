"""The splits of a task from files or the hub: official ones if there are any, each problem once, none in two splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from understudy.errors import UserError
from understudy.randomness import seed_from
from understudy.tasks.text import rows
from understudy.tasks.text.catalog import DATASETS, DataSet
from understudy.tasks.text.config import TextConfig
from understudy.tasks.text.rows import Row
from understudy.tasks.text.schemas import SCHEMAS, Item, Unanswered

HELD_OUT = ("test", "ood", "forget")


@dataclass(frozen=True)
class DataSource:
    """Where one data set is: a file, a folder, or the hub (no path)."""

    data: DataSet
    path: str = ""
    hub: str = ""
    revision: str = ""
    limit: int = 0

    def __post_init__(self) -> None:
        if self.path and not Path(self.path).exists():
            raise UserError("task.path", self.path, "no such file or folder")
        if self.path and Path(self.path).is_file() and not self.path.endswith(rows.SUFFIXES):
            raise UserError("task.path", self.path, f"is not a data file: one of {', '.join(rows.SUFFIXES)}")

    @property
    def is_split(self) -> bool:
        """Whether it names the split of each row: the hub does, and so do files that are named after splits."""
        return not self.path or bool(self._by_split())

    def _by_split(self) -> dict[str, list[Path]]:
        if not Path(self.path).is_dir():
            return {}
        names = [*self.data.splits.values(), self.data.shots_split, *self.data.names]
        return rows.by_split(self.path, names, self.data.subsets[0] if len(self.data.subsets) == 1 else "")

    def official(self, split: str, columns: tuple[str, ...]) -> Iterator[Row] | None:
        """The rows of an official split; None if a folder has no file of it."""
        if not self.path:
            return self._from_hub(split, columns)
        files = self._by_split().get(split)
        return rows.read_files(files, columns, self.limit) if files else None

    def _from_hub(self, split: str, columns: tuple[str, ...]) -> Iterator[Row]:
        hub = self.hub or self.data.hub
        for subset in self.data.subsets:
            yield from rows.read_hub(hub, subset, split, self.revision, columns, self.limit)

    def everything(self, columns: tuple[str, ...]) -> Iterator[Row]:
        """All rows of a file, or of a folder whose files name no split."""
        root = Path(self.path)
        files = rows.data_files(root) if root.is_dir() else [root]
        return rows.read_files(files, columns, self.limit)


class Loader:
    """Reads what a TextConfig names. `dropped`: how many rows were left out, by reason."""

    def __init__(self, name: str, config: TextConfig) -> None:
        self.name, self.config, self.data = name, config, DATASETS[name]
        self.dropped: dict[str, int] = {}
        self._shots: dict[tuple[str, str], list[Item]] = {}
        if name == "data" and not config.path:
            raise UserError("task", name, "needs path=FILE_OR_FOLDER of JSON lines or parquet")

    def splits(self) -> dict[str, list[Item]]:
        """Every split's problems. UserError: a malformed row, a missing split, a split that would be empty."""
        c = self.config
        out = self._own()
        for split in HELD_OUT:
            other, path = getattr(c, split), getattr(c, f"{split}_path")
            if other or path:
                out[split] = self._other(split, other or self.name, path)
        if "test" not in out:
            pool = out["train"]
            out["test"] = [i for i in pool if _share(i) < c.test_share]
            out["train"] = [i for i in pool if _share(i) >= c.test_share]
        if "train" in out:
            held = {i.fingerprint() for split in HELD_OUT for i in out.get(split, ())}
            kept = [i for i in out["train"] if i.fingerprint() not in held]
            self._count("also in a held-out split", len(out["train"]) - len(kept))
            if c.traces:
                traced = [i for i in kept if i.traces]
                self._count("without a trace", len(kept) - len(traced))
                kept = traced
            out["train"] = kept
        for split, items in out.items():
            if not items:
                reasons = "; ".join(f"{n} {why}" for why, n in self.dropped.items()) or "too few rows"
                raise UserError("task", self.name, f"leaves no problem for {split} ({reasons})")
        return {s: out[s] for s in ("train", *HELD_OUT) if s in out}

    def _own(self) -> dict[str, list[Item]]:
        c = self.config
        source = DataSource(self.data, c.path, c.hub, c.revision, c.limit)
        if not source.is_split:
            only = "train" if "train" in self.data.splits else "test"
            return {only: self._items(self.name, source.everything(self._columns(self.data, only)))}
        out = {}
        for split, official in self.data.splits.items():
            if split == "test" and (c.test or c.test_path):
                continue
            found = source.official(official, self._columns(self.data, split))
            if found is not None:
                out[split] = self._items(self.name, found)
            elif split == "test" and self.name != "data":
                hint = f"holds no file of the official split {official}: name one {official}.jsonl"
                raise UserError("task.path", c.path, hint)
        if not out.keys() & {"train", "test"}:
            raise UserError("task.path", c.path, "holds neither a train nor a test file: name one train.jsonl")
        return out

    def _other(self, split: str, name: str, path: str) -> list[Item]:
        """A held-out split from another data set or path."""
        data = DATASETS[name]
        if "test" not in data.splits:
            raise UserError(f"task.{split}", name, "has no test split: choose one that has, such as math500 or aime24")
        source = DataSource(data, path, limit=self.config.limit)
        columns = self._columns(data, split)
        if not source.is_split:
            return self._items(name, source.everything(columns))
        found = source.official(data.splits["test"], columns)
        if found is None:
            raise UserError(f"task.{split}_path", path, f"holds no file of split {data.splits['test']}")
        return self._items(name, found)

    def examples(self, name: str, split: str, train: list[Item]) -> list[Item]:
        """Worked examples in their official order; the first train problems where a data set has no others."""
        key = (name, split)
        if key not in self._shots:
            data, c = DATASETS[name], self.config
            is_main = name == self.name
            if is_main and data.shots_split in data.splits.values():
                self._shots[key] = train
                return train
            path = c.path if is_main else getattr(c, f"{split}_path")
            source = DataSource(data, path, c.hub if is_main else "", c.revision if is_main else "")
            found = source.official(data.shots_split, self._columns(data, "shots")) if source.is_split else None
            if found is None:
                hint = f"has no {data.shots_split} file to take examples from: add it, or use shots=0"
                raise UserError("task.shots", path, hint)
            self._shots[key] = self._items(name, found)
        return self._shots[key]

    def _columns(self, data: DataSet, split: str) -> tuple[str, ...]:
        schema = SCHEMAS[data.schema]
        return (*schema.columns, *(schema.trace_columns if self.config.traces and split == "train" else ()))

    def _items(self, name: str, source: Iterable[Row]) -> list[Item]:
        """Each distinct problem once, in the order of the data."""
        data, traces = DATASETS[name], self.config.traces
        missing = (self.config.missing if name == self.name else "") or data.missing
        items: dict[str, Item] = {}
        repeated = unanswered = 0
        for row in source:
            try:
                item = SCHEMAS[data.schema].read(row, traces)
            except Unanswered as error:
                if missing == "error":
                    raise row.refuse(str(error), "has no answer: fix the row, or use missing=drop") from None
                unanswered += 1
                continue
            first = items.setdefault(item.fingerprint(), item)
            if first is not item:
                repeated += 1
                if traces and item.traces:
                    both = tuple(dict.fromkeys(first.traces + item.traces))
                    items[item.fingerprint()] = replace(first, traces=both)
        self._count("repeated", repeated)
        self._count("without an answer", unanswered)
        return list(items.values())

    def _count(self, why: str, n: int) -> None:
        if n:
            self.dropped[why] = self.dropped.get(why, 0) + n


def _share(item: Item) -> float:
    """A number in [0, 1) from a problem's text alone: decides its split when there is no official test split."""
    return seed_from("held out", item.fingerprint()) / 2**64
