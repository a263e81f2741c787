"""The splits of a task from files or the hub: official ones if there are any, each problem once, none in two splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from understudy.errors import UserError
from understudy.randomness import seed_from
from understudy.tasks.text import files, formats
from understudy.tasks.text.catalog import DATASETS, DataSet
from understudy.tasks.text.config import TextConfig
from understudy.tasks.text.rows import Row
from understudy.tasks.text.schemas import SCHEMAS, Item, Unanswered

HELD_OUT = ("test", "ood", "forget")
OWN = "data"
"""The data set whose rows are the user's, in a format that is recognised."""


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
        if self.path and Path(self.path).is_file() and not self.path.endswith(files.SUFFIXES):
            raise UserError("task.path", self.path, f"is not a data file: one of {', '.join(files.SUFFIXES)}")

    @property
    def is_split(self) -> bool:
        """Whether it names the split of each row: the hub does, and so do files that are named after splits."""
        return not self.path or bool(self._by_split())

    def _by_split(self) -> dict[str, list[Path]]:
        if not Path(self.path).is_dir():
            return {}
        if not self.data.hub:
            return files.own_by_split(self.path, list(self.data.splits))[0]
        names = [*self.data.splits.values(), self.data.shots_split, *self.data.names]
        return files.by_split(self.path, names, self.data.subsets[0] if len(self.data.subsets) == 1 else "")

    def unread(self) -> list[Path]:
        """Files of a user's own folder that no split has."""
        if self.data.hub or not Path(self.path).is_dir():
            return []
        return files.own_by_split(self.path, list(self.data.splits))[1]

    def official(self, split: str, columns: tuple[str, ...]) -> Iterator[Row] | None:
        """The rows of an official split; None if a folder or a user's own data set on the hub has none."""
        if not self.path:
            return self._from_hub(split, columns)
        found = self._by_split().get(split)
        return files.read_files(found, columns, self.limit) if found else None

    def _from_hub(self, split: str, columns: tuple[str, ...]) -> Iterator[Row] | None:
        hub = self.hub or self.data.hub
        if not self.data.hub:
            have = files.hub_splits(hub, self.data.subsets[0], self.revision)
            same = [name for name in (split, *files.SAME_SPLIT.get(split, ())) if name in have]
            if not same:
                return None
            split = same[0]
        return (
            row
            for subset in self.data.subsets
            for row in files.read_hub(hub, subset, split, self.revision, columns, self.limit)
        )

    def everything(self, columns: tuple[str, ...]) -> Iterator[Row]:
        """All rows of a file, or of a folder whose files name no split."""
        root = Path(self.path)
        found = files.data_files(root) if root.is_dir() else [root]
        return files.read_files(found, columns, self.limit)


@dataclass
class Reading:
    """What was read of the task's own data set."""

    rows: int = 0
    formats: dict[str, int] = field(default_factory=dict)
    """Name of a format -> rows in it; {} of a public data set."""
    unread: list[Path] = field(default_factory=list)
    """Files of the folder that were left alone."""


class Loader:
    """Reads what a TextConfig names. `dropped`: how many rows were left out, by reason."""

    def __init__(self, name: str, config: TextConfig) -> None:
        self.name, self.config, self.data = name, config, DATASETS[name]
        self.dropped: dict[str, int] = {}
        self.reading = Reading()
        self._shots: dict[tuple[str, str], list[Item]] = {}
        if name == OWN and not config.path and not config.hub:
            raise UserError("task", name, "needs path=FILE_OR_FOLDER of rows (docs/tasks.md), or hub=HUB_ID")

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
            held = {i.mark for split in HELD_OUT for i in out.get(split, ())}
            kept = [i for i in out["train"] if i.mark not in held]
            self._count("also in a held-out split", len(out["train"]) - len(kept))
            if c.traces:
                traced = [i for i in kept if i.traces]
                self._count("without a trace", len(kept) - len(traced))
                kept = traced
            out["train"] = kept
        for split, items in out.items():
            if not items:
                dropped = "; ".join(f"{n} {why}" for why, n in self.dropped.items())
                reasons = dropped or "too few rows: give more, or an own file for it"
                raise UserError("task", self.name, f"leaves no problem for {split} ({reasons})")
        return {s: out[s] for s in ("train", *HELD_OUT) if s in out}

    def _own(self) -> dict[str, list[Item]]:
        c = self.config
        source = DataSource(self.data, c.path, c.hub, c.revision, c.limit)
        self.reading.unread = source.unread()
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
            elif split == "test" and self.name != OWN:
                hint = f"holds no file of the official split {official}: name one {official}.jsonl"
                raise UserError("task.path", c.path, hint)
        if not out.keys() & {"train", "test"}:
            raise UserError(
                "task.path", c.path or c.hub, "holds neither a train nor a test split: name one train.jsonl"
            )
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
        """The columns to read; () = all: a user's own are not known beforehand."""
        if not data.hub:
            return ()
        schema = SCHEMAS[data.schema]
        return (*schema.columns, *(schema.trace_columns if self.config.traces and split == "train" else ()))

    # ---------------------------------------------------------------- rows

    def _items(self, name: str, source: Iterable[Row]) -> list[Item]:
        """Each distinct problem once, in the order of the data."""
        traces = self.config.traces if name != OWN else self.config.traces is not False
        items: dict[str, Item] = {}
        repeated = otherwise = 0
        for item in self._answered(name, self._read(name, source)):
            first = items.setdefault(item.exact, item)
            if first is not item:
                repeated += 1
                otherwise += first.answer != item.answer
                if traces and item.traces:
                    both = tuple(dict.fromkeys(first.traces + item.traces))
                    items[item.exact] = replace(first, traces=both)
        self._count("repeated", repeated - otherwise)
        self._count("repeated with another answer", otherwise)
        return _told_apart(list(items.values()))

    def _read(self, name: str, source: Iterable[Row]) -> Iterator[Item]:
        """The items of the rows, those without an answer too."""
        c, data = self.config, DATASETS[name]
        for row in source:
            if name == self.name:
                self.reading.rows += 1
            try:
                if name == OWN:
                    yield self._own_item(row)
                else:
                    yield SCHEMAS[data.schema].read(row, bool(c.traces))
            except Unanswered as error:
                yield Item("", where=f"{row.where}, field `{error}`")  # what becomes of it is decided in _answered
            except UserError as error:
                if c.bad == "error" or name != self.name:
                    raise
                self._count(f"that cannot be used ({error.hint.partition(':')[0]})", 1)

    def _own_item(self, row: Row) -> Item:
        c = self.config
        if c.rename:
            names = formats.renaming(c.rename)
            row = Row(row.where, {names.get(k, k): v for k, v in row.values.items()})
        chosen = c.format or formats.recognise(row)
        item = formats.FORMATS[chosen].read(row, c.tag)
        self.reading.formats[chosen] = self.reading.formats.get(chosen, 0) + 1
        columns = {k: v for k, v in row.values.items() if k not in formats.TEXTS}
        return replace(item, columns=columns, traces=() if c.traces is False else item.traces)

    def _answered(self, name: str, items: Iterator[Item]) -> Iterator[Item]:
        """The items with an answer; all of them, ungraded, where a user's own rows have none or are to be without.

        UserError: some have none, unless they are to be dropped.
        """
        missing = (self.config.missing if name == self.name else "") or DATASETS[name].missing
        hint = "has no answer: fix the row, or use missing=drop"
        if name == OWN:
            everything = list(items)
            without = name == self.name and self.config.verifier == "none"
            if without or not any(item.answer for item in everything):
                yield from (replace(item, answer="", verifier="none") for item in everything)
                return
            items = iter(everything)
            hint = "has no answer, and other rows have one: fix the row, or use missing=drop or verifier=none"
        unanswered = 0
        for item in items:
            if item.answer:
                yield item
            elif missing == "error":
                raise UserError("task.data", item.where + (", field `answer`" if name == OWN else ""), hint)
            else:
                unanswered += 1
        self._count("without an answer", unanswered)

    def _count(self, why: str, n: int) -> None:
        if n:
            self.dropped[why] = self.dropped.get(why, 0) + n


def _told_apart(items: list[Item]) -> list[Item]:
    """The items, with a `variant` where several differ in nothing but spelling."""
    marks: dict[str, int] = {}
    for item in items:
        marks[item.mark] = marks.get(item.mark, 0) + 1
    return [replace(item, variant=item.exact[:8]) if marks[item.mark] > 1 else item for item in items]


def _share(item: Item) -> float:
    """A number in [0, 1) from a problem's text alone: decides its split when there is no official test split."""
    return seed_from("held out", item.mark) / 2**64
