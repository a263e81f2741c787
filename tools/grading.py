"""python -m tools.grading: our grading beside math-verify's, on 800 completions of public problems.

100 problems of reasoning_gym whose answers are numbers or fractions, each answered rightly and wrongly in four layouts
of LAYOUTS, in turns. Prints every completion on which the two part, and the number on which they agree. Needs the
extras `gym` and `math`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import cycle, islice

from understudy.tasks.text.answers import final_answer
from understudy.tasks.text.numbers import number
from understudy.tasks.text.verifiers import load_verifier

DATASETS = (
    "basic_arithmetic", "chain_sum", "products", "gcd", "lcm", "fraction_simplification", "decimal_arithmetic",
    "leg_counting", "prime_factorization", "simple_equations",
)  # fmt: skip
PER_DATASET, SEED = 10, 7
LAYOUTS = (
    r"So we get \boxed{{{}}}.", "Final Answer: The final answer is ${}$. I hope it is correct.", "The answer is {}.",
    "Adding up:\n\\[ \\boxed{{{}}} \\]", "**Answer:** ${}$", r"Therefore the result is $\boxed{{{}}}$ units.",
    "First 3, then 4.\nThe final answer is {}.", r"\boxed{{\text{{{}}}}}",
)  # fmt: skip


def golds() -> Iterator[str]:
    """Answers that are one number, as LaTeX."""
    import reasoning_gym  # the extra `gym`

    for name in DATASETS:
        found = 0
        for row in islice(reasoning_gym.create_dataset(name, size=200, seed=SEED), 200):
            answer = str(row["answer"]).strip()
            if found < PER_DATASET and re.fullmatch(r"-?\d+(\.\d+)?|\$?\\frac\{-?\d+\}\{\d+\}\$?", answer):
                found += 1
                yield answer.strip("$")


def wrong(gold: str) -> str:
    """A number near it, written alike."""
    if "frac" not in gold:
        return str(Decimal(gold) + 1)
    value = number(gold)
    assert value is not None
    return rf"\frac{{{value.numerator + value.denominator}}}{{{value.denominator}}}"


def completions() -> Iterator[tuple[str, str]]:
    """(gold, completion), half of them wrong."""
    layouts = cycle(LAYOUTS)
    for gold in golds():
        for layout in islice(layouts, 4):
            yield gold, layout.format(gold)
            yield gold, layout.format(wrong(gold))


def main() -> None:
    from math_verify import parse, verify  # the extra `math`

    pairs = list(completions())
    answers = [(gold, final_answer(text) or "") for gold, text in pairs]
    ours = load_verifier("math").right(answers)
    theirs = [bool(verify(parse(f"${gold}$"), parse(text))) for gold, text in pairs]
    for (gold, text), (_, read), a, b in zip(pairs, answers, ours, theirs):
        if a != b:
            print(f"gold {gold!r}, completion {text!r}, read as {read!r}: here {int(a)}, math-verify {int(b)}")
    same = sum(a == b for a, b in zip(ours, theirs))
    print(f"{same} of {len(pairs)} alike; passed: {sum(ours)} here, {sum(theirs)} with math-verify")


if __name__ == "__main__":
    main()
