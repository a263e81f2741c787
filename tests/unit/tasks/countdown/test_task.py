"""The verifier agrees with brute force, and hostile text is a wrong answer, without delay."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.tasks import load_task
from understudy.tasks.countdown import CountdownConfig, CountdownTask
from understudy.tasks.countdown.expressions import MAX_DEPTH, chain_reading, read, read_chain
from understudy.types import Prompt

SEARCH = CountdownTask()
ANSWER = CountdownTask(CountdownConfig(format="answer", ops="+-*/"))


def problem(*nums: int, target: int) -> Prompt:
    return Prompt("k", "", {"nums": nums, "target": target})


P15 = problem(5, 3, 7, target=15)


# -- expressions ---------------------------------------------------------------------------------------------


@st.composite
def trees(draw: st.DrawFn, depth: int = 4) -> tuple[str, Fraction | None, list[int]]:
    """A random expression with parentheses everywhere, its value (None: divides by zero) and its numbers."""
    if depth == 0 or draw(st.booleans()):
        n = draw(st.integers(0, 999))
        return str(n), Fraction(n), [n]
    a, va, na = draw(trees(depth=depth - 1))
    b, vb, nb = draw(trees(depth=depth - 1))
    op, gap = draw(st.sampled_from("+-*/")), draw(st.sampled_from(["", " "]))
    if va is None or vb is None or (op == "/" and vb == 0):
        value = None
    else:
        value = {"+": lambda: va + vb, "-": lambda: va - vb, "*": lambda: va * vb, "/": lambda: va / vb}[op]()
    return f"({a}{gap}{op}{gap}{b})", value, na + nb


@given(trees())
def test_the_parser_knows_the_value_and_the_numbers(tree: tuple[str, Fraction | None, list[int]]) -> None:
    text, value, numbers = tree
    reading = read(text)
    if value is None or len(text) > 400:
        assert reading is None
    else:
        assert reading is not None
        assert (reading.value, list(reading.numbers)) == (value, numbers)


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99)), max_size=6), st.integers(0, 99))
def test_precedence_and_left_association(tail: list[tuple[str, int]], first: int) -> None:
    text = str(first) + "".join(f"{op}{n}" for op, n in tail)
    # the reference: sums of products, folded by hand
    total, term, sign = 0, first, 1
    for op, n in tail:
        if op == "*":
            term *= n
        else:
            total, term, sign = total + sign * term, n, 1 if op == "+" else -1
    reading = read(text)
    assert reading is not None
    assert reading.value == total + sign * term


HOSTILE = {
    "empty": "",
    "space": " ",
    "power": "9**9**9**9",
    "exponent": "1e999999999",
    "many digits": "9" * 10_000,
    "open parentheses": "(" * 10_000,
    "balanced parentheses": "(" * 10_000 + "1" + ")" * 10_000,
    "a megabyte of ones": "1+" * 500_000 + "1",
    "a megabyte of spaces": " " * 1_000_000,
    "arabic digits": "\u0663+\u0665+\u0667",
    "fullwidth digits": "\uff13+\uff15+\uff17",
    "superscript": "3\u00b2+6",
    "unicode minus": "3\u22125",
    "nul": "3+5\x00+7",
    "newline": "3+5\n+7",
    "call": "__import__('os').system('true')",
    "attribute": "(1).__class__",
    "markup": "<script>3+5+7</script>",
    "surrogate": "3+5+7\ud800",
    "float": "3.0+5+7",
    "underscore": "1_0+5",
    "floor division": "7//3",
    "modulo": "7%3",
    "unary minus": "-3+5+13",
    "unary plus": "+3+5+7",
    "implicit product": "3(5)",
    "no right side": "3+",
    "zero division": "3/(5-5)",
    "zero over zero": "0/0",
    "hex": "0x0f",
    "lambda": "(lambda: 15)()",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_a_wrong_answer_at_once(text: str) -> None:
    began = time.process_time()
    assert read(text) is None
    assert chain_reading(text) is None
    for wrapped in (text, f"{text} ok", f"3+5=8+7=15 no\n{text} ok", f"{text} no\n" * 4, f"~{text}\n", text + "\n" * 9):
        assert SEARCH.verify(P15, wrapped, True) == 0.0
    for wrapped in (
        text,
        f"<answer>{text}</answer>",
        f"<answer>{text} = 15</answer>",
        f"<answer>3+5+7 = {text}</answer>",
    ):
        assert ANSWER.verify(P15, wrapped, True) == 0.0
    assert time.process_time() - began < 2  # milliseconds on any machine; an evaluated exponent would not end


@given(st.text())
def test_no_text_makes_the_verifier_raise(text: str) -> None:
    assert SEARCH.verify(P15, text, True) in (0.0, 1.0)
    assert ANSWER.verify(P15, f"<answer>{text}</answer>", True) in (0.0, 1.0)


def test_depth_is_bounded_not_forbidden() -> None:
    assert read("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH) is not None
    assert read("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1)) is None


# -- the search format ---------------------------------------------------------------------------------------


def test_a_chain_is_the_nested_expression_it_stands_for() -> None:
    chain = read_chain("3-9=-6+7=1*2=2")
    assert chain is not None
    assert chain.nested() == "((3-9)+7)*2"
    assert chain.nested(2) == "(3-9)+7"
    reading = chain_reading("3-9=-6+7=1*2=2")
    assert reading is not None
    assert (reading.value, reading.numbers, reading.operators) == (2, (3, 9, 7, 2), frozenset("+-*"))


ATTEMPTS = {
    "3+5=8+7=15 ok": 1,
    "7+5=12+3=15 ok": 1,
    "3-5=-2+7=5 no\n3+5=8+7=15 ok": 1,
    "no idea no\n3+5=8+7=15 ok": 1,  # what an admitted attempt says does not matter
    " no\n no\n no\n3+5=8+7=15 ok": 1,
    "3+5=8+7=15 no\n3+5=8+7=15 ok": 1,  # a right attempt called no, then called ok
    "~abcd\n3+5=8+7=15 ok": 1,
    "~abcdefgh\n3-5=-2+7=5 no\n3-5=-2-7=-9 no\n5-3=2+7=9 no\n3+5=8+7=15 ok": 1,
    "3-5=-2+7=5 no\n" * 4 + "3+5=8+7=15 ok": 0,  # one attempt too many
    "~abcdefghi\n3+5=8+7=15 ok": 0,  # style of nine letters
    "~\n3+5=8+7=15 ok": 0,
    "~abcd\n~abcd\n3+5=8+7=15 ok": 0,
    "3+5=8+7=15": 0,
    "3+5=8+7=15 no": 0,
    "3+5=8+7=15 ok\n": 0,
    "3+5=8+7=15 ok ok": 0,
    "3+5=8+7=15 ok no": 0,
    "3+5=8+7=15 ok\n3+5=8+7=15 ok": 0,
    "3-5=-2+7=5 ok no\n3+5=8+7=15 ok": 0,  # the first ok was on a wrong attempt
    "3-5=-2+7=5\n3+5=8+7=15 ok": 0,  # no verdict
    "\n3+5=8+7=15 ok": 0,
    "3+5=8+7=16 ok": 0,
    "3+5=9+6=15 ok": 0,
    "3+5=9+7=15 ok": 0,  # wrong on the way
    "3+5=8 ok": 0,  # a number left out
    "3+5+7=15 ok": 0,  # not a chain
    "(3+5)+7=15 ok": 0,
    "3+5=8+7=15+0=15 ok": 0,  # a foreign number
    "7+8=15 ok": 0,
    "3+3=6+9=15 ok": 0,
    "5*3=15+7=22-7=15 ok": 0,
    "03+5=8+7=15 ok": 0,
    "3+05=8+7=15 ok": 0,
    "3+5=08+7=15 ok": 0,
    "3+5=+8+7=15 ok": 0,
    "3 + 5=8+7=15 ok": 0,
    "3+5=8+7=15  ok": 0,
    " 3+5=8+7=15 ok": 0,
    "3+5=8+7=15 OK": 0,
}


@pytest.mark.parametrize(("text", "reward"), ATTEMPTS.items())
def test_search_rewards(text: str, reward: int) -> None:
    assert SEARCH.verify(P15, text, True) == reward
    assert SEARCH.verify(P15, text, False) == 0.0, "a truncated completion never earns anything"


def test_a_difference_from_the_target_must_be_there_and_right() -> None:
    task = CountdownTask(CountdownConfig(check=True, digits=2))
    assert task.prompts("train", 1, 0)[0].text.count(" ") == 2
    for text, reward in {
        "05+03=08+07=15-15=00 ok": 1,
        "05-03=02+07=09-15=-6 no\n05+03=08+07=15-15=00 ok": 1,
        "05+03=08+07=15 ok": 0,
        "05+03=08+07=15-15=0 ok": 0,
        "5+3=8+7=15-15=0 ok": 0,
        "05-03=02+07=09-15=00 ok": 0,
        "05+03=08+07=15-15=00-15=00 ok": 0,
    }.items():
        assert task.verify(P15, text, True) == reward, text


def test_minus_zero_and_exact_division() -> None:
    task = CountdownTask(CountdownConfig(ops="+-*/"))
    assert task.verify(problem(5, 5, 3, target=3), "5-5=0+3=3 ok", True) == 1.0
    assert task.verify(problem(5, 5, 3, target=3), "5-5=-0+3=3 ok", True) == 0.0
    assert task.verify(problem(8, 4, 3, target=6), "8/4=2*3=6 ok", True) == 1.0
    assert task.verify(problem(8, 3, 3, target=8), "8/3=2*3=8 ok", True) == 0.0  # 8/3 is no whole number
    assert SEARCH.verify(problem(8, 4, 3, target=6), "8/4=2*3=6 ok", True) == 0.0, "operators that are not allowed"


def brute_force(nums: tuple[int, ...], target: int, ops: str, digits: int = 1, check: bool = False) -> set[str]:
    """All right lines, computed without the code under test."""

    def spelt(n: int) -> str:
        return "-" + str(-n).zfill(digits - 1) if n < 0 else str(n).zfill(digits)

    work = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
    lines = set()
    for order in permutations(nums):
        for chosen in product(ops, repeat=len(nums) - 1):
            value, text = order[0], spelt(order[0])
            for op, n in zip(chosen, order[1:]):
                value = work[op](value, n)
                text += f"{op}{spelt(n)}={spelt(value)}"
            if value == target:
                lines.add(text + f"-{spelt(target)}={spelt(0)}" * check)
    return lines


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=4),
    st.integers(1, 40),
    st.integers(0, 3),
    st.booleans(),
    st.data(),
)
def test_search_agrees_with_brute_force(
    nums: list[int], target: int, digits: int, check: bool, data: st.DataObject
) -> None:
    task = CountdownTask(CountdownConfig(ops="+-*", digits=digits, check=check))
    prompt = problem(*nums, target=target)
    right = brute_force(tuple(nums), target, "+-*", max(1, digits), check)
    assert {text for text, good in task.candidates(prompt) if good} == right
    for line, good in data.draw(st.lists(st.sampled_from(list(task.candidates(prompt))), min_size=1, max_size=5)):
        assert good == (line in right)
        assert task.verify(prompt, f"{line} ok", True) == good
        at = data.draw(st.integers(0, len(line) - 1))
        broken = line[:at] + data.draw(st.sampled_from("0123456789+-*= ")) + line[at + 1 :]
        assert task.verify(prompt, f"{broken} ok", True) == (broken in right)


# -- the answer format ---------------------------------------------------------------------------------------

ANSWERS = {
    "<answer> (3+5)+7 </answer>": 1,
    "<answer>3 + 5 + 7 = 15</answer>": 1,
    "<answer> 7-(3-5)*4 </answer>": 0,
    "so <answer>3-5</answer> no, <answer>3+5+7</answer>": 1,
    "so <answer>3+5+7</answer> no, <answer>3-5</answer>": 0,  # the last one counts
    "<answer>\n3+5+7\n</answer> done": 1,
    "<answer>3+5+7 = 16</answer>": 0,
    "<answer>15 = 3+5+7</answer>": 0,
    "<answer>3+5+7 = 15 = 15</answer>": 0,
    "<answer>15</answer>": 0,
    "<answer>3+5+7": 0,
    "3+5+7</answer>": 0,
    "</answer>3+5+7<answer>": 0,
    "<answer></answer>": 0,
    "<answer>3+5+7+7-7</answer>": 0,
    "<ANSWER>3+5+7</ANSWER>": 0,
    "3+5+7": 0,
}


@pytest.mark.parametrize(("text", "reward"), ANSWERS.items())
def test_answer_rewards(text: str, reward: int) -> None:
    assert ANSWER.verify(P15, text, True) == reward
    assert ANSWER.verify(P15, text, False) == reward, "the public reward reads the text alone"


def test_fractions_on_the_way_are_exact() -> None:
    assert ANSWER.verify(problem(8, 8, 3, 3, target=24), "<answer>8/(3-8/3)</answer>", True) == 1.0


@pytest.mark.parametrize("spec", ["countdown", "countdown:format=answer,ops=+-*/,n_numbers=4,ood_max=11"])
def test_gold_is_accepted_in_every_split(spec: str) -> None:
    task = load_task(spec)
    for split in task.splits:
        for prompt in task.prompts(split, 40, seed=3):
            assert task.verify(prompt, task.gold(prompt), True) == 1.0
