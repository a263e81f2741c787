"""docs/export.md: which row of the table each target can express, and every limit with what is nearest."""

from __future__ import annotations

from tools.markdown import replaced
from tools.markdown import table as markdown_table
from understudy.config import Resolved, TrainConfig, resolve
from understudy.export.limits import LIMITS, TARGETS, VERSIONS, limits_of, trainer_of, written
from understudy.methods.table import TABLE


def page(text: str) -> str:
    """docs/export.md with its generated parts written again."""
    return replaced(replaced(text, "rows", _rows()), "limits", _limits())


def _config(method: str, target: str) -> Resolved:
    rank = 32 if target == "tinker" else 0
    return resolve(TrainConfig(method=method, student="OWNER/NAME", expert="OWNER/NAME", lora_rank=rank))


def _cell(method: str, target: str) -> str:
    config = _config(method, target)
    found = limits_of(target, config)
    if found and not found[0].difference:
        return f"no (`{found[0].field}`)"
    trainer = f"`{trainer_of(target, written(target, config))}`"
    return f"{trainer}, differs in `{', '.join(x.field for x in found)}`" if found else trainer


def _rows() -> str:
    rows = ([f"[{m}](algorithms.md#{m})", *(_cell(m, target) for target in TARGETS)] for m in TABLE)
    return markdown_table(("row", *VERSIONS.values()), rows)


def _limits() -> str:
    rows = (
        (", ".join(x.targets) if len(x.targets) < len(TARGETS) else "all", f"`{x.field}`", x.reason,
         ("with `--allow-differences` " if x.difference else "") + x.nearest)
        for x in LIMITS
    )  # fmt: skip
    return markdown_table(("target", "cell or option", "why not", "nearest"), rows)
