"""The answer of a completion: each case was once graded wrongly, as a false negative or a false positive."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.tasks.text.answers import cut, final_answer, last_box, letter, same_text, thought_out
from understudy.tasks.text.numbers import number
from understudy.tasks.text.verifiers import Exact, Letter, Number


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{3}, no: \boxed{4}", "4"),
        (r"\boxed{\frac{1}{2}} units", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed 7.", "7."),
        (r"\boxed{\boxed{8}}", "8"),
        (r"\fbox{9}", "9"),
        (r"\boxed{3} then \boxed{4", None),  # cut off while writing its last answer
        (r"\boxed{}", None),
        (r"\boxed", None),
        (r"\boxed{" + "9" * 2000 + "}", None),
        (r"\boxed{\}", None),
        ("{" * 100_000 + r"\boxed{" * 1000, None),
    ],
)
def test_last_box(text: str, box: str | None) -> None:
    assert last_box(text) == box


@pytest.mark.parametrize(
    ("text", "extract", "answer"),
    [
        (r"the answer is 3. \boxed{4}", "marked", "4"),
        ("He has 18.\n#### 18", "marked", "18"),
        ("#### 1\n#### 2", "marked", "2"),
        ("<answer> 5 </answer>", "marked", "5"),
        ("Thus the final answer is **12**.", "marked", "12"),
        ("Answer: $\\frac{1}{3}$", "marked", "\\frac{1}{3}"),
        ("Answer: 3\nWait. Answer: 4", "marked", "4"),
        ("there are 3 and then 42 of them", "marked", None),
        ("there are 3 and then 1,042 of them", "number", "1,042"),
        ("Answer: 4", "box", None),
        ("", "number", None),
        ("#### ", "marked", None),
        ("answerable questions", "marked", None),
    ],
)
def test_final_answer(text: str, extract: str, answer: str | None) -> None:
    assert final_answer(text, extract) == answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("073", 73), ("000", 0), ("-5", -5), ("+5", 5), ("1,234", 1234), ("1{,}234", 1234), ("$18", 18), (r"\$18", 18),
        ("18 dollars", 18), ("18.00", 18), (r"50\%", 50), ("50%", 50), (r"\frac{1}{2}", Fraction(1, 2)),
        (r"-\dfrac{1}{2}", Fraction(-1, 2)), (r"\frac{-3}{4}", Fraction(-3, 4)), ("3/4", Fraction(3, 4)),
        (".5", Fraction(1, 2)),
        ("5 cm", 5), (r"5\text{ cm}", 5), (r"5 \text{cm}^2", 5), (r"90^\circ", 90), ("60 miles/hour", 60), ("x = 5", 5),
        ("−7", -7), (r"\left 5 \right", 5), ("$5$", 5), ("12.", 12),
        # not plainly a number
        ("5x", None), ("5 x", None), ("1,23", None), ("1/0", None), (r"\frac{1}{0}", None), ("5²", None), ("3½", None),
        ("", None), ("-", None), (".", None), ("1e5", None), ("2^{10}", None), ("1.5/2", None), ("9" * 5000, None),
        ("inf", None), ("nan", None), ("1 2", None), ("five", None),
    ],
)  # fmt: skip
def test_number(text: str, value: Fraction | int | None) -> None:
    assert number(text) == value


@given(st.integers(-(10**12), 10**12), st.integers(0, 4))
def test_integers_are_equal_in_every_spelling(n: int, zeros: int) -> None:
    digits = "0" * zeros + str(abs(n))
    sign = "-" if n < 0 else ""
    for text in (sign + digits, f"{n:,}", f"${n}$", f"\\text{{{n}}}", f"{sign}{digits}.0", f"{n} apples"):
        assert number(text) == n, text
        assert Number().right([(str(n), text), (str(n + 1), text)]) == [True, False]


@given(st.text(max_size=300))
def test_any_text_is_only_wrong(text: str) -> None:
    """Model text is data: no text raises, and a text without a number equals no number."""
    for extract in ("box", "marked", "number"):
        final_answer(text, extract)
    thought_out(text, "think", True)
    assert same_text(text, text)
    if number(text) is None:
        assert Number().right([("5", text)]) == [False]


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", "B"), ("(B)", "B"), (r"\text{B}", "B"), (r"\text{(B)}", "B"), ("B.", "B"), (r"\textbf{(B)}\ 12", "B"),
        ("B) 12", "B"),
        ("C: because", "C"), (" A", "A"), ("Because", None), ("b", None), ("", None), ("AB", None), ("Z", None),
    ],
)  # fmt: skip
def test_letter(text: str, choice: str | None) -> None:
    assert letter(text) == choice
    assert Letter().right([("B", text)]) == [choice == "B"]


@pytest.mark.parametrize(
    ("text", "opened", "left"),
    [
        ("<think>\\boxed{1}</think>\\boxed{2}", False, "\\boxed{2}"),
        ("\\boxed{1}</think>\\boxed{2}", True, "\\boxed{2}"),
        ("\\boxed{1}", True, ""),  # never stopped thinking
        ("<think>\\boxed{1}", False, ""),
        ("\\boxed{1}", False, "\\boxed{1}"),
        ("<think>a</think>b<think>c", False, ""),
        ("<think>a</think>b<think>c</think>d", False, "d"),
        ("[THINK]\\boxed{1}[/THINK]2", False, "2"),
        ("[THINK]\\boxed{1}", False, ""),
        ("<|think|>1<|/think|>2", False, "2"),
        ("<seed:think>1</seed:think>2", False, "2"),
        ("◁think▷1◁/think▷2", False, "2"),
        ("I think [so] <thinking> aloud", False, "I think [so] <thinking> aloud"),
    ],
)
def test_thoughts_are_not_graded(text: str, opened: bool, left: str) -> None:
    assert thought_out(text, "think", opened) == left
    assert thought_out(text, "", opened) == text


def test_stop_texts_cut() -> None:
    assert cut("18\n\nQuestion: 2+2\nAnswer: 4", ("\n\nQuestion:", "</s>")) == "18"
    assert cut("18", ("\n",)) == "18"


def test_exact_is_about_words() -> None:
    assert Exact().right([("Blue  whale", "**blue whale.**"), ("blue", "red"), ("a", "a" * 2000)]) == [
        True,
        False,
        False,
    ]
