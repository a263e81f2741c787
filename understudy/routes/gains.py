"""What the bank expects of a phase: the share of the distance to the expert that it closes. Needs no torch.

gains.json is written by `understudy calibrate policies --write`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from understudy.routes.policy import Gains
from understudy.runs.files import read_json, write_json

FILE = Path(__file__).with_name("gains.json")


@cache
def load(path: Path = FILE) -> Gains:
    """The committed one. Empty where no bank has been trained."""
    if not path.is_file():
        return Gains()
    data = read_json(path)
    shares = {(method, after): (mean, low, high) for method, after, mean, low, high in data["shares"]}
    return Gains(shares, int(data["units"]))


def write(gains: Gains, path: Path = FILE) -> None:
    rows = [[method, after, *(round(x, 4) for x in share)] for (method, after), share in sorted(gains.shares.items())]
    write_json(path, {"units": gains.units, "shares": rows})
    load.cache_clear()
