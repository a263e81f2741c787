"""docs/tasks.md: the tables of data sets and of their options."""

from __future__ import annotations

import dataclasses
from typing import Any

from tools.markdown import replaced, table
from understudy.cli.options import field_docs
from understudy.experts.programs.writer import WriterConfig
from understudy.tasks.chain import ChainConfig
from understudy.tasks.gym import GymConfig
from understudy.tasks.path import PathConfig
from understudy.tasks.sort import SortConfig
from understudy.tasks.text.catalog import DATASETS, DataSet
from understudy.tasks.text.config import TextConfig
from understudy.tasks.text.formats import FORMATS
from understudy.tasks.text.schemas import SCHEMAS


def page(text: str) -> str:
    for name, config in (
        ("sort", SortConfig),
        ("path", PathConfig),
        ("chain", ChainConfig),
        ("writer", WriterConfig),
        ("gym", GymConfig),
    ):
        text = replaced(text, name, _options(config))
    text = replaced(replaced(text, "data-sets", _data_sets()), "options", _options(TextConfig))
    rows = [(f"`{name}`", known.fields, known.about) for name, known in FORMATS.items()]
    return replaced(text, "formats", table(("format", "fields", "what becomes of them"), rows))


def _data_sets() -> str:
    headings = ("name", "on the hub", "fields that are read", "splits: ours = official", "verifier", "what it is")
    rows = [(f"`{n}`", _hub(d), _fields(d), _splits(d), d.verifier, d.about) for n, d in DATASETS.items()]
    return table(headings, rows)


def _hub(data: DataSet) -> str:
    if not data.hub:
        return "-"
    subsets = [s for s in data.subsets if s]
    suffix = f" ({subsets[0]})" if len(subsets) == 1 else f" ({len(subsets)} subjects)" if subsets else ""
    return f"`{data.hub}`{suffix}"


def _fields(data: DataSet) -> str:
    if not data.hub:
        return "[your own](#your-own-rows)"
    schema = SCHEMAS[data.schema]
    fields, traces = (", ".join(f"`{c}`" for c in names) for names in (schema.columns, schema.trace_columns))
    return f"{fields}; traces: {traces}" if traces else fields


def _splits(data: DataSet) -> str:
    splits = ", ".join(ours if ours == official else f"{ours} = {official}" for ours, official in data.splits.items())
    return f"{splits}; examples: {data.shots_split}" if data.shots else splits


def _options(config: Any) -> str:
    docs, rows = field_docs(config), []
    for field in dataclasses.fields(config):
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        meaning = docs[field.name]
        for sign in ("\\boxed{}", "<think>...</think>", "<answer>"):
            meaning = meaning.replace(sign, f"`{sign}`")
        rows.append((f"`{field.name}`", "" if default in (None, "") else f"`{default}`", meaning))
    return table(("option", "default", "meaning"), rows)
