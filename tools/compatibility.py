"""python -m tools.compatibility [MODEL_TYPE ...]: try every causal-LM architecture of transformers, write the page.

Tiny random models, in child processes. What was found stays in docs/results/compatibility.json, so that a walk that was
stopped goes on; without names, only what has no result for the installed versions is tried.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS, PAGE = Path("docs/results/compatibility.json"), Path("docs/compatibility.md")
COLUMNS = {
    "scoring": "batched scoring", "sampling": "sampling, rows dropped", "resume": "resume", "merge": "LoRA merge",
    "reload": "final/ reload",
}  # fmt: skip
TOGETHER = 40
"""Architectures per child process: importing takes longer than a check."""
LIMIT = 240
"""Seconds without a result after which a child is stopped."""

FAMILIES = (
    "llama", "qwen", "gemma", "mistral", "mixtral", "lfm", "granite", "mamba", "jamba", "gpt", "deepseek", "olmo"
)  # fmt: skip
"""Those that a walk tries first."""

Row = Mapping[str, str]


def main(argv: Sequence[str]) -> int:
    """Exit status: 0, or 1 where something is wrong or fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.compatibility", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="MODEL_TYPE", help="try these again; default: what is not known")
    parser.add_argument("--page", action="store_true", help="try nothing, write the page of what is known")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        return _child(args.names)
    rows, names = known(RESULTS), architectures()
    todo = args.names or sorted((name for name in names if name not in rows), key=_first)
    for name, row in tried([] if args.page else todo):
        rows[name] = row
        print(f"{name}: {summary(row)}", flush=True)
        _write(rows, names)
    PAGE.write_text(page(**_write(rows, names)), encoding="utf-8")
    return int(any(is_wrong(row) for row in rows.values()))


def _write(rows: Mapping[str, Row], names: Sequence[str]) -> dict[str, Any]:
    untried = [name for name in names if name not in rows]
    data = {"versions": versions(), "untried": untried, "rows": dict(sorted(rows.items()))}
    RESULTS.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return data


def architectures() -> list[str]:
    """The model types of transformers' causal language models."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def _first(name: str) -> tuple[bool, str]:
    return not name.startswith(FAMILIES), name


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("transformers", "torch", "peft")}


def known(path: Path) -> dict[str, Row]:
    """What was found before, by model type; nothing where that was with other versions."""
    if not path.is_file():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return dict(data["rows"]) if data["versions"] == versions() else {}


def tried(names: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Each model type and what was found, as it comes."""
    todo = list(names)
    while todo:
        part, todo = todo[:TOGETHER], todo[TOGETHER:]
        results: queue.Queue[str | None] = queue.Queue()
        command = [sys.executable, "-m", "tools.compatibility", "--child", *part]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            threading.Thread(target=_forward, args=(child.stdout, results), daemon=True).start()
            line: str | None = ""
            while part and line is not None:
                try:
                    line, why = results.get(timeout=LIMIT), "the process that tried it ended"
                except queue.Empty:
                    line, why = None, f"no result within {LIMIT} s"
                yield part.pop(0), json.loads(line) if line else {"model": "", "loads": f"FAILS: {why}"}
            child.kill()
        todo = part + todo


def _forward(lines: Any, results: queue.Queue[str | None]) -> None:
    for line in lines:
        if line.startswith("{"):
            results.put(line)
    results.put(None)


def _child(names: Sequence[str]) -> int:
    import torch  # only the child needs it

    from tools.compatibility_checks import examine

    torch.set_num_threads(1)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(examine(name, Path(folder))), flush=True)
    return 0


# ---------------------------------------------------------------- the page


def kind(cell: str) -> str:
    """exact, slower, partly, refused, not made, or wrong: the first word of a finding."""
    head = cell.partition(":")[0]
    return head if head in ("exact", "slower", "partly", "refused", "not made", "yes") else "WRONG"


def is_wrong(row: Row) -> bool:
    return any(kind(row[name]) == "WRONG" for name in ("loads", *COLUMNS) if name in row)


def summary(row: Row) -> str:
    if kind(row["loads"]) != "yes":
        return row["loads"]
    return ", ".join(f"{name} {row[name]}" for name in COLUMNS)


def page(versions: Mapping[str, str], untried: Sequence[str], rows: Mapping[str, Row]) -> str:
    """The Markdown of the page: one line per model type."""
    made = {name: row for name, row in rows.items() if kind(row["loads"]) != "not made"}
    loaded = {name: row for name, row in made.items() if kind(row["loads"]) == "yes"}
    lines = [
        "<!-- written by python -m tools.compatibility -->", "", "# Architectures", "",
        f"Every causal language model of transformers {versions['transformers']}, tried as a tiny random model (hidden "
        f"size 32, mostly two layers) with torch {versions['torch']} and peft {versions['peft']} on a CPU: "
        f"`python -m tools.compatibility`. {len(rows)} model types, {len(made)} made tiny, {len(loaded)} of them "
        "accepted as student or expert. Weights are random: the page shows what is computed exactly, no learning.",
        "",
        "- **batched scoring**: log-probs of padded batches and of completions that share a row are those of single "
        "passes.",
        "- **sampling, rows dropped**: log-probs recorded while sampling, with rows that end at different times, are "
        "those of single passes. *slower*: steps with the model's own cache are not exact once rows are dropped, so "
        "every token takes a full pass.",
        "- **resume**: a checkpoint gives back every weight bit for bit.",
        "- **LoRA merge**: `final/` of `--lora-rank` has the weights of peft's `merge_and_unload`, and scores as the "
        "adapted model. *partly*: `--lora-targets all-linear` is refused before training, the layers that the message "
        "names work.",
        "- **final/ reload**: `final/` loads again with the same weights.",
        "- **refused**: one line before anything is trained; the last column has it.",
        "",
        _counts(loaded), "",
        f"| model type | class | {' | '.join(COLUMNS.values())} | why |",
        f"|---|---|{'---|' * (len(COLUMNS) + 1)}",
    ]  # fmt: skip
    for name, row in sorted(loaded.items()):
        cells = " | ".join(kind(row[column]) for column in COLUMNS)
        lines.append(f"| {name} | {row['model']} | {cells} | {_reasons(row)} |")
    for title, part in (
        ("Refused when they are loaded", {n: r for n, r in made.items() if n not in loaded}),
        ("Not made tiny", {n: r for n, r in rows.items() if n not in made}),
    ):
        if part:
            lines += ["", f"## {title}", "", "| model type | why |", "|---|---|"]
            lines += [f"| {name} | {_escaped(row['loads'].partition(': ')[2])} |" for name, row in sorted(part.items())]
    if untried:
        lines += ["", "## Not tried yet", "", f"The same command goes on with these: {', '.join(untried)}."]
    return "\n".join(lines) + "\n"


def _counts(rows: Mapping[str, Row]) -> str:
    found = {column: [kind(row[column]) for row in rows.values()] for column in COLUMNS}
    kinds = ("exact", "slower", "partly", "refused", "WRONG")
    parts = []
    for column, values in found.items():
        counts = ", ".join(f"{values.count(k)} {k}" for k in kinds if k in values)
        parts.append(f"{COLUMNS[column]}: {counts}")
    return "; ".join(parts) + "."


def _reasons(row: Row) -> str:
    details = (row[column].partition(": ")[2] for column in COLUMNS)
    return _escaped("; ".join(dict.fromkeys(d for d in details if d)))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
