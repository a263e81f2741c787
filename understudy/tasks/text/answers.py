"""The answer of a completion: without its thoughts, from its last box or where the text says "answer"; letters.

Model text is data: it is only searched and compared, by rules that take linear time, never evaluated.
"""

from __future__ import annotations

import re
from functools import cache

from understudy.tasks.text.numbers import LONGEST, bare, plain

EXTRACTS = ("marked", "box", "number")
SCANNED = 100_000  # characters at the end of a completion that are searched for an answer

_HASHES = re.compile(r"####[ \t]*([^\n]{1,1000})")
_HEADING = re.compile(
    r"(?:step|part|case|explanation|solution|conclusion|final|answer|verification|note|summary|given|analysis|result"
    r"|calculation|check|reasoning|therefore)\b", re.I
)  # fmt: skip
_SAYS = re.compile(
    r"(?<![A-Za-z])(?:answer|(?:correct|right|best) (?:option|choice)|final result|答案|respuesta|réponse|antwort)"
    r"(?![A-Za-z])[\"'”’)]{0,2}[*_]{0,3}(?: \([^()\n]{0,40}\))?"
    r"(?: (?:to|for|of|in|here|then|thus|therefore|hence)\b[^.:=\n]{0,80}?)?[ \t*_]{0,6}"
    r"(?:[:=≈：]|->|→|是|为|[-–—](?= )|(?:is|equals|(?:would|should|must|will) be|es|est|ist)\b)[ \t]{0,9}:?",
    re.I,
)
_TITLE = re.compile(
    r"^[#>*_ \t\d.)]{0,12}(?:the[ ])?(?:(?:final|correct)[ ])?answer[*_: \t]{0,6}$", re.I | re.M
)  # fmt: skip
_POLITE = re.compile(
    r"(?:^|[.!?$*)\]}][ \t]{1,9}|\n[ \t]{0,9})(?:I hope|hope (?:this|that|it)|let me know|please|feel free|thank"
    r"|if you (?:have|need|want)|is there anything|do you)\b[^\n]*", re.I | re.M,
)  # fmt: skip
_NO_ANSWER = re.compile(r"(?:helpful|correct|right|wrong|incorrect|clear|useful|satisfactory|as follows|below)\b", re.I)
_SENTENCE = re.compile(  # not after the initials of a name, `St.` or `Dr.`
    r"(?<![ .][A-Z])(?<![ .][A-Z][a-z])(?<!^[A-Z])(?<!^[A-Z][a-z])[.!?][*_]{0,3}[ \t]{1,9}(?=[A-Z\"(*])"
    r"|(?<=[\d$])\.(?=[A-Z][a-z])"
)
_ADVERB = re.compile(
    r"(?:(?:therefore|thus|hence|simply|clearly|indeed|just|exactly|then|now)[ ,]{1,9}){1,3}(?=\S)", re.I
)
_BULLET = re.compile(r"(?:[-*•>][ \t]{1,9}){1,9}")
_MARKS = " \t*_:`#"
_DELIMITERS = frozenset(
    ("\\[", "\\]", "$$", "$", "\\(", "\\)", "```", "```text", "---", "***", "**", "\\begin{align*}")
)
_LAST_NUMBER = re.compile(
    r"(?:(?<![\w)\]}])[-+−–])?\$?(?:\\[dtc]?frac\{-?\d{1,200}\}\{\d{1,200}\}"
    r"|(?<![\^_\d])(?:\d{1,9} \d{1,9}/\d{1,9}|\d[\d,]*(?:\.\d+)?(?:/\d+)?)"
    r"(?:[ ](?:dozen|hundred|thousand|million|billion|trillion)\b)?)"
)
_CHOICE = re.compile(
    r"(?i:the )?(?i:(?:correct|right|best) )?(?i:(?:option|choice|answer) )?(?:\((?P<within>[A-Ja-j])\)(?P<after>.*)"
    r"|(?P<plain>[A-J])(?P<rest>[:)].*|\.(?![A-Za-z]).*|[,;] .*| [-–—] .*| (?:because|since|as|is)\b.*| [\d($=\"].*|))",
    re.S,
)
_MORE = re.compile(r"[.:)]?\s*(?:,|;|/|&|or\b|and\b)\s*(?:option |choice )?\(?[A-J]\)?(?![A-Za-z'])(?! [a-z])")


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

    box: the last box only. marked: else the last of `<answer>` tags, `#### ...` lines and what follows "answer is", in
    the same line or the next. number: else the last number in the text.
    """
    text = text[-SCANNED:]
    if "\\boxed" in text or "\\fbox" in text:
        box = last_box(text)
        said = _stated(plain(box)) if box and extract != "box" else None
        return said[1] or None if said else box
    if extract == "box":
        return None
    marked = max((m for m in (_tagged(text), _hashed(text), _stated(text)) if m), default=None)
    answer = marked[1] if marked else ""
    if marked is None and extract == "number":
        answer = max(_LAST_NUMBER.finditer(text), key=re.Match.start, default=[""])[0]
    return bare(answer) or None


def _tagged(text: str) -> tuple[int, str] | None:
    """(where it ends, content) of the last `<answer>`; one that a stop text has cut off goes to the end."""
    low = text.lower() if text.isascii() else re.sub("<(/?)ANSWER>", r"<\1answer>", text, flags=re.I)
    end = low.rfind("</answer>")
    start = low.rfind("<answer>", 0, end) if end >= 0 else low.rfind("<answer>")
    if start < 0:
        return None
    content = text[start + 8 : end if end >= 0 else None].strip()
    said = _stated(content)
    if len(content) > LONGEST:
        return None
    return (end if end >= 0 else len(text)), (said[1] if said else content)


def _hashed(text: str) -> tuple[int, str] | None:
    """Of the last line that gsm8k's mark begins; `#### Step 3` is a heading of Markdown."""
    last = None
    for match in _HASHES.finditer(text):
        if not _HEADING.match(match[1].strip(_MARKS)):
            last = match
    return (last.start(), last[1]) if last else None


def _stated(text: str) -> tuple[int, str] | None:
    """(place, answer) of the last place where the text says what its answer is."""
    text = _POLITE.sub(_kept_mark, text)
    places = [(m.end(), m.start()) for pattern in (_SAYS, _TITLE) for m in pattern.finditer(text)]
    for end, start in sorted(places, reverse=True):
        answer = _from(text, end)
        if not _NO_ANSWER.match(answer):
            return start, answer
    return None


def _kept_mark(match: re.Match[str]) -> str:
    """The full stop or delimiter before a polite sentence."""
    return match[0][0] if match[0][:1] in ".!?$*)]}" else "\n"


def _from(text: str, at: int) -> str:
    """The answer that begins at `at` or in the next line that is not empty: its first sentence."""
    line = ""
    for _ in range(6):
        end = text.find("\n", at)
        line = text[at : at + LONGEST if end < 0 else min(end, at + LONGEST)].strip()
        if line not in _DELIMITERS and line.strip(_MARKS):
            break
        if end < 0:
            return ""
        at = end + 1
        line = ""
        at += (bullet.end() - at) if (bullet := _BULLET.match(text, at)) else 0
    line = line.lstrip(_MARKS)
    if adverb := _ADVERB.match(line):
        line = line[adverb.end() :]
    stop = _SENTENCE.search(line)
    return bare(line[: stop.start()] if stop else line)


def letter(answer: str) -> str | None:
    r"""The choice that `B`, `(B)`, `\text{B}`, `B.`, `option B` or `\textbf{(B)}\ 12` names: A to J, or None.

    A letter that begins a sentence (`A lot`) is a word, and two letters are no choice.
    """
    if len(answer) > LONGEST:
        return None
    match = _CHOICE.fullmatch(plain(answer.strip().partition("\n")[0]))
    if not match or _MORE.match(match["after"] or match["rest"] or ""):
        return None
    return (match["within"] or match["plain"]).upper()


def same_text(a: str, b: str) -> bool:
    """Equal but for spacing and the spellings that `plain` knows. A space between two digits counts: 3 7 is not 37."""
    return _close(plain(a)) == _close(plain(b))


def _close(text: str) -> str:
    return re.sub(r"(?<!\d) | (?!\d)", "", text)
