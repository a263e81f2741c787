"""The answer of a completion: without its thoughts, from its last box; numbers and letters.

Model text is data: it is only searched and compared, by rules that take linear time, never evaluated.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import cache

LONGEST = 1000  # characters of an answer; a longer one is wrong
EXTRACTS = ("marked", "box", "number")

_TAG = re.compile(r"<answer>([^<]{0,1000})</answer>", re.I)
_HASHES = re.compile(r"####[ \t]*([^\n]{1,1000})")
_STATED = re.compile(r"answer[ \t]*(?:is\b|:)[ \t]*:?[ \t]*([^\n]{1,1000})", re.I)
_NUMBER = re.compile(r"[-+]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|rm|textit|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"([-+]?)\\frac\{([-+]?\d{1,200})\}\{(\d{1,200})\}")
_PLAIN = re.compile(
    r"([-+]?)(\d{1,3}(?:,\d{3})+|\d{1,200})?(\.\d{1,200})?(?:/(\d{1,200}))?"
    r"(?P<unit>(?: (?:[A-Za-zµ]{2,}\.?|[mgshlLNJWVAKC](?![A-Za-z]))(?:\^?\{?[23²³]\}?)?|/[a-z]{1,6}){0,4})"
)
_LETTER = re.compile(r"\(?([A-J])\)?(?:[.:)]?|[.:)\s].*)", re.S)


def thought_out(text: str, tag: str, opened: bool = False) -> str:
    """`text` after its last `</tag>`. A thought that never ends leaves nothing.

    opened: the prompt itself opened the thought, so that a completion without `</tag>` is all thought.
    """
    if not tag:
        return text
    last = None
    for last in _tags(tag).finditer(text):
        opened = not last["closes"]
    if opened:
        return ""
    return text[last.end() :] if last is not None else text


@cache
def _tags(tag: str) -> re.Pattern[str]:
    """The tags of that name as models write them: `<think>`, `[THINK]`, `<|think|>`, `<seed:think>`, and their ends."""
    return re.compile(rf"(?:<\|?|\[|◁)(?P<closes>/?)(?:\w{{1,20}}:)?{re.escape(tag)}(?:\|?>|\]|▷)", re.I)


def cut(text: str, stops: tuple[str, ...]) -> str:
    """`text` before the first stop string in it."""
    places = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return text[: min(places)] if places else text


def last_box(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds, braces balanced; None without one, or where it is empty or never closed."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    begin = start + (6 if text.startswith("\\boxed", start) else 5)
    rest = text[begin : begin + LONGEST + 2].lstrip(" ")
    if not rest.startswith("{"):
        word = re.match(r"[^\s$,;{}\\]+", rest)  # \boxed 5
        return word[0] if word else None
    depth, escaped = 0, False
    for i, c in enumerate(rest):
        if escaped:
            escaped = False
        elif c == "\\":
            escaped = True
        elif c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                return rest[1:i].strip() or None
    return None


def final_answer(text: str, extract: str = "marked") -> str | None:
    """The answer that a completion gives, or None.

    box: the last box only. marked: else the last `<answer>` tag, `#### ...` line or "answer is/answer: ...".
    number: else the last number in the text.
    """
    if "\\boxed" in text or "\\fbox" in text:
        return last_box(text)
    if extract == "box":
        return None
    best: tuple[int, str] | None = None
    for pattern in (_TAG, _HASHES, _STATED):
        for match in pattern.finditer(text):
            if best is None or match.start() >= best[0]:
                best = (match.start(), match[1])
    if best is None and extract == "number":
        for match in _NUMBER.finditer(text):
            best = (match.start(), match[0])
    answer = bare(best[1]) if best else ""
    return answer or None


def bare(answer: str) -> str:
    """Without dollars, stars, mathematics delimiters and a full stop around it."""
    before = None
    while before != answer:
        before, answer = answer, answer.strip().strip("*`").removesuffix(".").removesuffix("。").strip()
        for left, right in (("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ('"', '"')):
            if len(answer) > len(left + right) and answer.startswith(left) and answer.endswith(right):
                answer = answer[len(left) : -len(right)]
    return answer


def plain(answer: str) -> str:
    """One spelling for what LaTeX spells in many ways: spacing, text, fractions, degrees, currency."""
    s = unicodedata.normalize("NFKC", answer).replace("−", "-")
    for old, new in (
        (r"\left", ""), (r"\right", ""), (r"\!", ""), (r"\,", " "), (r"\;", " "), (r"\:", " "), (r"\ ", " "),
        ("~", " "), ("{,}", ","), ("dfrac", "frac"), ("tfrac", "frac"), (r"\$", ""), ("$", ""),
        (r"^{\circ}", ""), (r"^\circ", ""), ("°", ""), (r"\degree", ""),
    ):  # fmt: skip
        s = s.replace(old, new)
    s = _WRAPPED.sub(r" \1 ", s).replace(" ^", "^")
    return bare(" ".join(s.split()))


def number(answer: str) -> Fraction | None:
    """The number that an answer plainly is (`073`, `1,234`, `-\\frac{1}{2}`, `$18`, `18 dollars`, `50\\%`), or None."""
    if len(answer) > LONGEST or any(unicodedata.category(c) == "No" for c in answer):  # 5², 3½
        return None
    s = plain(answer).replace(r"\%", "%").removesuffix("%").strip()
    s = re.sub(r"^[A-Za-z] ?= ?", "", s)
    fraction = _FRACTION.fullmatch(s.replace(" ", ""))
    if fraction:
        below = int(fraction[3])
        value = Fraction(int(fraction[2]), below) if below else None
        return -value if value is not None and fraction[1] == "-" else value
    match = _PLAIN.fullmatch(s)
    if not match or (match[2] is None and match[3] is None):
        return None
    value = Fraction((match[2] or "0").replace(",", "") + (match[3] or ""))
    if match[4] is not None:
        if match[3] or not int(match[4]):
            return None
        value /= int(match[4])
    return -value if match[1] == "-" else value


def letter(answer: str) -> str | None:
    r"""The choice that `B`, `(B)`, `\text{B}`, `B.` or `\textbf{(B)}\ 12` names: A to J, or None."""
    match = _LETTER.fullmatch(plain(answer)) if len(answer) <= LONGEST else None
    return match[1] if match else None


def same_text(a: str, b: str) -> bool:
    """Equal but for spacing and the spellings that `plain` knows."""
    return plain(a).replace(" ", "") == plain(b).replace(" ", "")
