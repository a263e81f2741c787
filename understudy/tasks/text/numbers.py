r"""The number that an answer plainly is, in the layouts of people and models: `1,234`, `$5 million`, `11\frac{5}{6}`.

A text that is not plainly one number is none: two numbers, a hedge, a variable, a number in words. Every rule takes
linear time on any text.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

LONGEST = 1000  # characters of an answer; a longer one is wrong
MULTIPLES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
LARGEST_POWER = 100  # of ten, in scientific notation

_WRAPPED = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|mbox|rm|textit|operatorname|emph)\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}"
)
_BOLD = re.compile(r"(?<![\w*)\]}])(\*\*|__)([^*_\n]{1,200})\1(?![\w*(])")
_DASH = re.compile(r"(?<![\w)\]}.,])(?<![\w)\]}.,] )[–—‒]\s?(?=[$.\d\\])")
_MULTIPLE = rf"(?P<multiple>(?: ?(?:{'|'.join(MULTIPLES)})s?(?![A-Za-z])|[kK](?![A-Za-z])){{0,3}})"
_DIGITS = r"\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+(?! ?/)|\d{1,3}(?:['_]\d{3})+|\d{1,200}"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?) ?(?:(?P<mixed>\d{{1,9}})(?: and | ?(?=\\)| )(?=\d{{1,9}} ?/|\\frac))?"
    rf"(?:\\frac ?(?:\{{(?P<minus>[-+]?)(?P<top>\d{{1,200}})\}}\{{(?P<bottom>\d{{1,200}})\}}|(?P<t>\d)(?P<b>\d))"
    rf"|(?P<whole>{_DIGITS})?(?P<decimals>\.\d{{1,200}})?(?: ?/ ?(?P<below>\d{{1,200}}))?)"
    r"(?: ?(?:\\times|\\cdot|[*×x]) ?10 ?\^ ?(?:\{ ?(?P<power>[-+]?\d{1,3}) ?\}|(?P<p>[-+]?\d{1,3})))?" + _MULTIPLE
)
_UNIT = re.compile(
    r"(?:st|nd|rd|th)?(?: ?(?:mm|cm|km|kg|mg|ml|mL|ft|in|lbs?|oz|hrs?|min|sec|mph|[mgshlL]|cents?|¢|€|£))?"
    r"(?:(?<=[a-zA-Z])\^?\{?[23²³]\}?)?(?: ?/ ?[a-z]{1,8})?(?![\w^])"
)
_WORD = re.compile(r"[A-Za-zµ]+(?:['’-][A-Za-z]+)*")
_LETTER_UNITS = frozenset("mgshlLNJWVAKC")
_BEFORE = re.compile(
    r"(?:(?:about|approximately|approx|exactly|roughly|around|only|just|simply|therefore|thus|hence|clearly|indeed|then"
    r"|also|still|now|equal to|equals|a total of|USD|EUR|Rs)\b\.?[ :,]*|≈ ?|~ ?|[=:] ?|\\approx ?)",
    re.I,
)
_SIGN = re.compile(r"(?:negative|minus) ", re.I)
_COUNTS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion "
    "dozen half halves third thirds fourth fourths fifth fifths sixth sixths seventh eighth eighths tenth tenths "
    "hundredth hundredths thousandth thousandths twice thrice double triple"
)
_MATHS = (
    "pi tau phi theta alpha beta sqrt root squared cubed square cube factorial power log ln sin cos tan exp infinity "
    "infinite plus minus over divided multiplied mod modulo sum difference product inverse reciprocal opposite "
    "negative frac times cdot"
)
_HEDGES = (
    "or not no never nor isn't aren't wasn't doesn't cannot can't except without between than least most nearly almost "
    "under above below unknown undefined undetermined impossible wrong incorrect maybe perhaps possibly either neither "
    "to until up step part question problem option choice case equation line figure table example chapter section"
)
_OTHER_MEANING = frozenset((f"{_COUNTS} {_MATHS} {_HEDGES}").split()) - {"times"}
"""Words that change what number is meant, or whether one is."""
_CLAUSE = re.compile(
    r"(?:, (?!or\b|and\b|not\b|but\b)| (?:because|since|which|when|where|so that|given that|as)\b| ?\(| ?;| - | – )"
)


def bare(answer: str) -> str:
    """Without dollars, stars, mathematics delimiters and a full stop around it."""
    before = None
    while before != answer:
        before, answer = answer, answer.strip().strip("*`").removesuffix(".").removesuffix("。").strip()
        for left, right in (("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ('"', '"'), ("__", "__")):
            if len(answer) > len(left + right) and answer.startswith(left) and answer.endswith(right):
                answer = answer[len(left) : -len(right)]
    return answer


def plain(answer: str) -> str:
    """One spelling for what LaTeX spells in many ways: spacing, text, fractions, degrees, currency, minus."""
    s = unicodedata.normalize("NFKC", answer).replace("−", "-").replace("⁄", "/")
    for old, new in (
        (r"\left", ""), (r"\right", ""), (r"\!", ""), (r"\,", " "), (r"\;", " "), (r"\:", " "), (r"\ ", " "),
        ("~", " "), ("{,}", ","), ("dfrac", "frac"), ("tfrac", "frac"), ("cfrac", "frac"), (r"\$", ""), ("$", ""),
        (r"^{\circ}", ""), (r"^\circ", ""), ("°", ""), (r"\degree", ""), (r"\quad", " "),
    ):  # fmt: skip
        s = s.replace(old, new)
    s = _DASH.sub("-", _BOLD.sub(r"\2", _WRAPPED.sub(r" \1 ", s)).replace(" ^", "^"))
    return bare(" ".join(s.split()))


def number(answer: str, prose: bool = True) -> Fraction | None:
    """The number that an answer plainly is, or None. A percent sign is left out.

    prose: also where it is the only number of a sentence (`Ann has 18 apples`).
    """
    if len(answer) > LONGEST or any(unicodedata.category(c) == "No" for c in answer):  # 5², 3½
        return None
    s = plain(answer).replace(r"\%", "%")
    s = re.sub(r"^(?:US|CA|AU|NZ|HK|A|C|S)(?=\d)|[€£¥₹₩]", " ", s).strip() if _money(answer) else s
    sides = [side.strip() for side in s.split("=")]
    if len(sides) > 1:
        return _equation(sides)
    return _side(s, prose)


def is_sentence(answer: str) -> bool:
    """Whether it is a number only as the one in a sentence."""
    return number(answer, prose=False) is None and number(answer) is not None


def _money(answer: str) -> bool:
    return any(c in "$€£¥₹₩" for c in answer)


def _equation(sides: list[str]) -> Fraction | None:
    """The value of `x = 5`, `9 * 2 = 18`, `total cost = 18`; None where the sides differ or hold a variable."""
    values = [_side(side, False) for side in sides]
    for side, value in zip(sides, values):
        side = re.sub(r"(?<=[\d)]) ?x ?(?=[\d(])", "*", side)
        arithmetic = re.fullmatch(r"(?:[\d.,+*/()\s-]|\\times|\\cdot|\\div|\\frac|[{}×÷])+", side)
        name = re.fullmatch(r"[A-Za-z](?:_\{?\w{1,9}\}?)?|[A-Za-z][A-Za-z ]{1,60}", side)
        if value is None and not arithmetic and not name:
            return None
    known = {value for value in values if value is not None}
    return known.pop() if len(known) == 1 else None


def _side(s: str, prose: bool) -> Fraction | None:
    """Of one side: a number with what may stand around it, else a sentence with one number in it."""
    for _ in range(4):
        match = _BEFORE.match(s)
        if not match:
            break
        s = s[match.end() :]
    negative = _SIGN.match(s)
    if negative:
        value = _side(s[negative.end() :], False) if s[negative.end() :][:1].isdigit() else None
        return None if value is None else -value
    match = _NUMBER.match(s)
    value = _value(match) if match and match.end() else None
    if match and value is not None:
        rest = re.match(r" ?%", s[match.end() :])
        at = match.end() + (rest.end() if rest else 0)
        if match["multiple"] or rest:
            return value if _may_follow(s[at:], value) else None
        unit = _UNIT.match(s, at)
        return value if _may_follow(s[unit.end() if unit else at :], value) else None
    return _sentence(s) if prose else None


def _value(match: re.Match[str]) -> Fraction | None:
    top, bottom = match["top"] or match["t"], match["bottom"] or match["b"]
    if top is not None:
        if not int(bottom):
            return None
        value = Fraction(int(top), int(bottom)) * (-1 if match["minus"] == "-" else 1)
        if match["mixed"] and (value >= 1 or match["minus"]):
            return None
    elif match["whole"] is None and match["decimals"] is None:
        return None
    else:
        value = Fraction(re.sub(r"[,_' ]", "", match["whole"] or "0") + (match["decimals"] or ""))
        if match["below"] is not None:
            if match["decimals"] or not int(match["below"]):
                return None
            value /= int(match["below"])
        if match["mixed"] and (match["below"] is None or value >= 1):
            return None
    value += int(match["mixed"] or 0)
    power = match["power"] or match["p"]
    if power is not None:
        if abs(int(power)) > LARGEST_POWER:
            return None
        value *= Fraction(10) ** int(power)
    for word in re.findall(r"[a-z]+|K", match["multiple"]):
        value *= 1000 if word in ("k", "K") else MULTIPLES[word.removesuffix("s")]
    return -value if match["sign"] == "-" else value


def _may_follow(rest: str, value: Fraction) -> bool:
    """Whether words after a number leave it as it is: units, what is counted, a clause that says why."""
    clause = _CLAUSE.search(rest)
    if clause:
        tail = rest[clause.end() :]
        if clause[0].strip() == "(" and not re.fullmatch(r"[^()]*\)[^()\d]*", tail):
            return False
        if clause[0].strip() in (",", ";", "-", "–") and re.match(r" ?(?:(?:or|and|not|but) |[-+$]?\d)", tail):
            return False
        rest = rest[: clause.start()]
    if rest and not rest[0].isspace() and rest[0] not in "/.,":
        return False
    words = _WORD.findall(rest)
    if re.sub(r"[\s/.,^{}23²³]", "", _WORD.sub("", rest)) or re.search(r"(?<![A-Za-z^{])[23]", rest):
        return False
    for i, word in enumerate(words):
        lone = len(word) == 1 and word not in _LETTER_UNITS and not (word == "a" and i + 1 < len(words))
        if lone or word.lower() in _OTHER_MEANING:
            return False
    part = bool(words) and words[0].lower() in ("quarter", "quarters") and value in (1, 3)
    return not part and len(rest) <= 200


def _sentence(s: str) -> Fraction | None:
    """The only number in a sentence of plain words, which none of them changes."""
    found = list(re.finditer(r"(?<![\w.,/^\\])[-+]?\d", s))
    if len(found) != 1 or len(s) > 300:
        return None
    before = s[: found[0].start()]
    words = _WORD.findall(before)
    if not words or re.sub(r"[\s,:$]", "", _WORD.sub("", before)):
        return None
    meant = [w for i, w in enumerate(words) if not (i == 0 and len(words) > 1 and words[1] in ("is", "equals"))]
    if any((len(w) == 1 and w not in "aAI") or w.lower() in _OTHER_MEANING for w in meant):
        return None
    match = _NUMBER.match(s, found[0].start())
    return _side(s[match.start() :], False) if match else None
