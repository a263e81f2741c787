"""What a terminal shows at the end of `understudy auto`: the path, the phases with their rewards, the finding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from understudy.evaluation.numbers import percent
from understudy.report.auto import words
from understudy.report.auto.load import START, Auto, load
from understudy.report.auto.track import Series, Track, tracks
from understudy.report.text import method_name

_BLOCKS = "▁▂▃▄▅▆▇█"
_LONG, _SHORT = 24, 10  # columns of a curve
_WIDE = 96  # columns of a terminal with room for everything
_GAP = 2


def terminal(folder: Path, width: int = 100) -> Group:
    """The summary for a terminal of `width` characters. UserError where there is no auto.json that can be read."""
    auto = load(folder)
    found = tracks(auto, [])
    parts: list[Text | Table | Padding] = [_path(auto)]
    if found:
        parts.append(Padding(_table(auto, found, width), (1, 0)))
    head, *more = words.finding(auto)
    parts += [Text(head, style="bold"), *(Text(line) for line in more)]
    return Group(*parts)


def _path(auto: Auto) -> Text:
    """ "student 31.0%  →  SFT 45.0%  →  GKD 63.0%" """
    out = Text()
    for node in [auto.start, *auto.path()]:
        name = "student" if node.name == START else method_name(node.method)
        out.append("  →  " if node.name != START else "", style="dim")
        out.append(name, style="bold")
        out.append(f" {percent(node.look.value)}" if node.look else "")
    if auto.expert is not None:
        out.append(f"   (expert {percent(auto.expert.value)})", style="dim")
    return out


def _table(auto: Auto, found: Sequence[Track], width: int) -> Table:
    """One row per phase: what it reached, its reward as it went on, what it spent, what the guard did."""
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, _GAP, 0, 0), show_edge=False)
    out.add_column("phase", no_wrap=True)
    out.add_column("from", no_wrap=width >= _WIDE)
    out.add_column("accuracy", no_wrap=True)
    out.add_column("reward", no_wrap=True)
    out.add_column("spent", no_wrap=True, justify="right")
    out.add_column("guard")
    on_path = {node.name for node in auto.path()}
    for track in found:
        node = track.node
        strong = node.name in on_path or node.running
        accuracy = words.accuracy(node.look) if width >= _WIDE else percent(node.look.value) if node.look else "–"
        curve = sparkline(track.curve, _LONG if width >= _WIDE else _SHORT)
        state = "running" if node.running else words.guarded(node)
        cells = [method_name(node.method), words.model(auto, node.parent or START), accuracy, curve,
                 words.amount(auto, track.end - track.begin), state]  # fmt: skip
        out.add_row(*(Text(cell) for cell in cells), style="" if strong else "dim")
    return out


def sparkline(curve: Series | None, columns: int) -> str:
    """A curve of shares in `columns` characters: an empty block is 0, a full one 1."""
    if curve is None:
        return ""
    pieces = np.array_split(curve.mean, min(columns, len(curve.mean)))
    return "".join(_BLOCKS[min(int(len(_BLOCKS) * piece.mean()), len(_BLOCKS) - 1)] for piece in pieces)
