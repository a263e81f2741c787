"""How things are written down: numbers, names, and model text made safe to look at."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

from understudy.evaluation.intervals import Interval

METHOD_NAMES = {
    "sft": "SFT",
    "seq_kd": "SeqKD",
    "word_kd": "WordKD",
    "gkd": "GKD",
    "dagger": "DAgger",
    "opd": "OPD",
    "opd_full": "OPD full",
    "base_opd": "Base OPD",
    "grpo": "GRPO",
    "rft": "RFT",
}
OFFLINE = ("sft", "seq_kd", "word_kd")
ONLINE = ("opd", "opd_full", "gkd", "dagger", "base_opd")
MINUS = "\N{MINUS SIGN}"
_JOINERS = "\u200c\u200d"  # real scripts and emoji need these two
_CONTROLS = [
    "NUL",
    "SOH",
    "STX",
    "ETX",
    "EOT",
    "ENQ",
    "ACK",
    "BEL",
    "BS",
    "TAB",
    "LF",
    "VT",
    "FF",
    "CR",
    "SO",
    "SI",
    "DLE",
    "DC1",
    "DC2",
    "DC3",
    "DC4",
    "NAK",
    "SYN",
    "ETB",
    "CAN",
    "EM",
    "SUB",
    "ESC",
    "FS",
    "GS",
    "RS",
    "US",
]
_OPEN, _CLOSE = "\N{MATHEMATICAL LEFT ANGLE BRACKET}", "\N{MATHEMATICAL RIGHT ANGLE BRACKET}"


def visible(text: object, limit: int | None = None) -> str:
    """Text from a model or a file, safe to show as text: what would act is shown as a sign instead.

    Control characters become their names, direction overrides and other invisible format characters their
    code point, half surrogates the replacement character. Markup is *not* escaped: the template does that.
    """
    out = []
    for char in str(text):
        code = ord(char)
        if char in "\n\t" or char in _JOINERS:
            out.append(char)
        elif code < 32:
            out.append(f"{_OPEN}{_CONTROLS[code]}{_CLOSE}")
        elif 0xD800 <= code <= 0xDFFF or code & 0xFFFE == 0xFFFE:
            out.append("\N{REPLACEMENT CHARACTER}")
        elif unicodedata.category(char) in ("Cf", "Cc", "Zl", "Zp"):
            out.append(f"{_OPEN}U+{code:04X}{_CLOSE}")
        else:
            out.append(char)
    shown = "".join(out)
    if limit is not None and len(shown) > limit:
        return f"{shown[:limit]}… ({len(shown) - limit:,} more characters)"
    return shown


def label(text: object, limit: int = 60) -> str:
    """One short line."""
    line = " ".join(visible(str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def family(method: str) -> str:
    """The row of the table a method label names: "opd:gamma=1" and "opd gamma 1" are opd."""
    head = method.strip().lower().replace(":", " ").split()
    return head[0] if head and head[0] in METHOD_NAMES else ""


def method_name(method: str, budget: float = 1) -> str:
    row = family(method)
    # "opd:gamma=1" is shown as "OPD gamma=1", an unknown label as it is
    rest = label(method, 30)[len(row) :].lstrip(": ")
    name = f"{METHOD_NAMES[row]} {rest}".strip() if row else label(method, 30)
    return name if budget == 1 else f"{name} ×{budget:g}"


def percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f}%"


def points(share: float, digits: int = 1) -> str:
    """A difference of two shares as signed percentage points."""
    rounded = round(100 * share, digits)
    sign = "+" if rounded > 0 else MINUS if rounded < 0 else "±"
    return f"{sign}{abs(rounded):.{digits}f}"


def between(interval: Interval, digits: int = 1) -> str:
    """ "[85.1, 91.0]" for an accuracy; empty where there is no interval."""
    if interval.low == interval.high:
        return ""
    return f"[{100 * interval.low:.{digits}f}, {100 * interval.high:.{digits}f}]"


def with_interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{percent(interval.value)} {between(interval)}".strip()


def points_interval(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{points(interval.value)} [{points(interval.low)}, {points(interval.high)}]"


def count(value: Any) -> str:
    """12,345 or 1.23M: budgets."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "–"
    if abs(value) >= 1e9:
        return f"{value / 1e9:.2f}B"
    return f"{value / 1e6:.2f}M" if abs(value) >= 1e6 else f"{value:,.0f}"


def brief(value: float) -> str:
    """The same in at most five characters: 950, 12k, 1.2M."""
    if abs(value) < 9_950:
        return f"{value:.0f}"
    return f"{value / 1e3:.0f}k" if abs(value) < 999_500 else f"{value / 1e6:.1f}M"


def seconds(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "–"
    if value < 99.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"


def listed(names: list[str]) -> str:
    """a; a and b; a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def plain_value(value: Any, limit: int = 160) -> str:
    """A setting for reading: numbers short, everything else as it is in JSON."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    if isinstance(value, str):
        return visible(value, limit)
    return visible(json.dumps(value, ensure_ascii=False, default=str), limit)


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, value) pairs of nested mappings."""
    if isinstance(value, dict):
        return [pair for key, sub in value.items() for pair in flat(sub, f"{prefix}.{key}" if prefix else key)]
    return [(label(prefix), plain_value(value))]
