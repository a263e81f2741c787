"""The two tables of docs/tasks.md, from the catalogue and the options: `python -m understudy.tasks.text.page`."""

from __future__ import annotations

import dataclasses

from understudy.cli.options import field_docs
from understudy.tasks.text.catalog import DATASETS, DataSet
from understudy.tasks.text.config import TextConfig
from understudy.tasks.text.schemas import SCHEMAS


def data_sets() -> str:
    """name, hub id, fields, official splits, verifier, what it is."""
    lines = [
        "| name | on the hub | fields that are read | splits: ours = official | verifier | what it is |",
        "|---|---|---|---|---|---|",
    ]
    for name, data in DATASETS.items():
        lines.append(f"| `{name}` | {_hub(data)} | {_fields(data)} | {_splits(data)} | {data.verifier} | {data.told} |")
    return "\n".join(lines)


def _hub(data: DataSet) -> str:
    if not data.hub:
        return "-"
    subsets = [s for s in data.subsets if s]
    told = f" ({subsets[0]})" if len(subsets) == 1 else f" ({len(subsets)} subjects)" if subsets else ""
    return f"`{data.hub}`{told}"


def _fields(data: DataSet) -> str:
    schema = SCHEMAS[data.schema]
    fields = ", ".join(f"`{c}`" for c in schema.columns)
    return fields + (f"; traces: {', '.join(f'`{c}`' for c in schema.trace_columns)}" if schema.trace_columns else "")


def _splits(data: DataSet) -> str:
    told = [ours if ours == official else f"{ours} = {official}" for ours, official in data.splits.items()]
    return ", ".join(told) + (f"; examples: {data.shots_split}" if data.shots else "")


def options() -> str:
    """option, default, meaning: the docstrings of TextConfig."""
    docs = field_docs(TextConfig)
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(TextConfig):
        default = field.default
        shown = "" if default in (None, "") else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        meaning = docs[field.name].replace("|", "\\|")
        for sign in ("\\boxed{}", "<think>...</think>", "<answer>"):
            meaning = meaning.replace(sign, f"`{sign}`")
        lines.append(f"| `{field.name}` | {shown} | {meaning} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(data_sets(), options(), sep="\n\n")
