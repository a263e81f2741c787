"""The final table: one row for each expert x method x budget."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from understudy.evaluation.intervals import Interval
from understudy.evaluation.numbers import brief, count, duration, percent, points, points_interval, with_interval
from understudy.report.comparison.load import Comparison
from understudy.report.comparison.summary import summarise
from understudy.report.text import label, method_name

# the most telling first: a narrow terminal drops columns from the right
COLUMNS = (
    "expert", "method", "sampled", "OPD minus this", "greedy", "time", "expert tokens", "o.o.d.", "gain", "updates",
)  # fmt: skip
_GAP = 2  # blanks between columns


@dataclass(frozen=True)
class Row:
    """One line of the final table. Shares in 0..1; `difference` is the online reference minus this arm."""

    expert: str
    method: str
    sampled: Interval | None
    greedy: Interval | None
    ood: Interval | None
    difference: Interval | None
    gain: Interval | None
    budgets: dict[str, float | None]

    @property
    def cells(self) -> list[str]:
        """Short texts for a terminal, in the order of `headers`."""
        scored, drawn = self.budgets["expert_tokens_scored"], self.budgets["expert_tokens_sampled"]
        return [
            self.expert,
            self.method,
            with_interval(self.sampled),
            points_interval(self.difference) if self.difference else "",
            percent(self.greedy.value) if self.greedy else "–",
            duration(self.budgets["train_seconds"]),
            brief((scored or 0) + (drawn or 0)),
            percent(self.ood.value) if self.ood else "–",
            points(self.gain.value) if self.gain else "–",
            count(self.budgets["updates"]),
        ]


def headers(comparison: Comparison) -> list[str]:
    """The column heads of `table`, naming the method that the differences are taken from."""
    online = summarise(comparison).online
    return [h.replace("OPD", method_name(online)) if online else h for h in COLUMNS]


def table(comparison: Comparison) -> list[Row]:
    """One row for each expert x method x budget with at least one finished run."""
    s = summarise(comparison)
    rows = []
    for arm in s.arms:
        if not arm.finished:
            continue
        online = s.arm(arm.expert, s.online)
        rows.append(
            Row(
                label(arm.expert, 40),
                arm.name,
                s.accuracy(arm),
                s.accuracy(arm, kind="greedy"),
                s.accuracy(arm, "ood"),
                s.difference(online, arm) if online is not arm else None,
                s.gain(arm),
                s.ledger(arm),
            )
        )
    return rows


def terminal(comparison: Comparison, width: int) -> Table:
    """The table for a terminal of `width` characters: whole cells, as many columns as fit."""
    rows = [row.cells for row in table(comparison)]
    columns = list(zip(headers(comparison), *rows, strict=True))
    sizes = [max(map(len, column)) for column in columns]
    fitting = max((n for n in range(4, len(sizes) + 1) if sum(sizes[:n]) + (_GAP + 1) * n - 1 <= width), default=4)
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, _GAP, 0, 0), show_edge=False)
    for name, *_ in columns[:fitting]:
        out.add_column(Text(name), no_wrap=True)
    before = ""
    for cells in rows:
        out.add_row(*map(Text, ["" if cells[0] == before else cells[0], *cells[1:fitting]]))
        before = cells[0]
    return out
