"""Which answers of a model may reach a scorer that executes them as Python or sympy text.

Some scorers of reasoning_gym call `eval` or `sympy.parse_expr` on what the model wrote.
"""

from __future__ import annotations

import re

LONGEST = 2000  # characters
_FUNCTIONS = (
    "sin cos tan sec csc cot asin acos atan arcsin arccos arctan sinh cosh tanh asinh acosh atanh exp log ln sqrt Abs "
    "abs Rational Integer Float Symbol pi E I"
)
CALLS = frozenset(_FUNCTIONS.split())
"""Names that may stand before a bracket."""
_CALLED = re.compile(r"([^\W\d]\w*)\s*[(\[]")
_ATTRIBUTE = re.compile(r"[\w)\]}\"']\s*\.\s*[^\W\d]")
_WORDS = re.compile(r"\b(?:lambda|import|exec|eval|for|while|yield|await|async|global|def|class|del|raise)\b")


def harmless(answer: str) -> bool:
    """Whether it is numbers, names, operators, texts and lists alone: no attribute, no call but of a function of
    mathematics, no statement. What is not harmless is no answer to any of these problems."""
    if len(answer) > LONGEST or "__" in answer or "\\" in answer or "`" in answer or ":=" in answer:
        return False
    if _ATTRIBUTE.search(answer) or _WORDS.search(answer):
        return False
    return all(name in CALLS for name in _CALLED.findall(answer))
