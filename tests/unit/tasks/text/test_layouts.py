"""Answers in the layouts of people and models: the right one is right in each, a different one is wrong in each."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.tasks.text.answers import final_answer, letter, same_text
from understudy.tasks.text.numbers import number
from understudy.tasks.text.verifiers import Exact, Letter, Number

ENDINGS = (
    "Answer: {}", "**Answer**: {}", "**Answer:** {}", "**Final Answer**: {} dollars", "Answer:\n{}",
    "Answer :  {}",
    "### Answer\n{}", "## Final Answer\n\n**{}**", "**Answer**\n\n{}", "The answer is {}.", "The answer is: {}",
    "the answer is **{}**.", "Thus the answer = {}", "So the answer is therefore {}.", "The answer would be {}.",
    "The answer is {}. I hope this helps!", "The answer is {}.\n\nLet me know if the answer is helpful.",
    "Final Answer: The final answer is ${}$. I hope it is correct.", "The final answer is\n\n$$\n{}\n$$\n",
    "The final answer is:\n\\[ {} \\]", "Answer:\n\n- {}", "ANSWER: {}", "The answer is {} because it is.",
    "The answer is {} apples, which is more than before.", "The answer is {} (see above).",
    "Answer: Ann has {} apples.",
    "The answer is {}. This is because the rest is eaten.", "The answer to the question is {}.",
    "答案是 {}。", "答案：{}",
    "The answer is approximately {}.", "#### {}", "#### Final Answer\n{}", "Step 1.\n#### Answer: {}",
    "<answer>{}</answer>", "<answer> The answer is {}. </answer>", "<answer>\n{}", r"\boxed{{{}}}", r"\fbox{{{}}}",
    r"\boxed{{\text{{The answer is {}}}}}", r"\boxed{{\text{{{} dollars}}}}", r"\boxed{{x = {}}}",
    r"\boxed{{\text{{total}} = {}}}", "Answer: 3 * 7 = {}", "Answer = {}", "Answer - {}",
    "The answer (in dollars): {}",
    "Answer: 2\nNo, wait.\nAnswer: {}", "The answer is not clear yet.\nThe answer is {}", "**The answer is {}**",
    "The answer is `{}`.", '"answer": {}', "__Answer__: {}", "1. **Answer:** {}", "> Answer: {}",
)  # fmt: skip
"""How completions end; {} is the answer."""


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("gold", ["18", "-7"])
def test_endings(ending: str, gold: str) -> None:
    if gold == "-7" and ending in ("Answer - {}", "Step 1.\n#### Answer: {}"):
        pytest.skip("two signs")
    text = "She has 3 and then 12 of them, so 5 are left.\n" + ending.format(gold)
    answer = final_answer(text)
    assert answer is not None
    assert Number().right([(gold, answer), ("19", answer), ("12", answer), ("7", answer)]) == [
        True,
        False,
        False,
        False,
    ]


LAYOUTS: dict[str, Callable[[int], str]] = {
    "plain": str, "commas": "{:,}".format, "latex commas": lambda n: f"{n:,}".replace(",", "{,}"),
    "thin": lambda n: f"{n:,}".replace(",", r"\,"), "spaces": lambda n: f"{n:,}".replace(",", " "),
    "narrow": lambda n: f"{n:,}".replace(",", "\u202f"), "apostrophes": lambda n: f"{n:,}".replace(",", "'"),
    "zeros": "{}.00".format, "dollars": "${:,}".format, "latex dollars": r"\${}".format, "euros": "€{}".format,
    "pounds after": "{} £".format, "us dollars": "US${}".format, "maths": "${}$".format, "inline": r"\({}\)".format,
    "text": r"\text{{{}}}".format, "units": "{} cm".format, "glued": "{}cm".format,
    "squared units": r"{}\text{{ m}}^2".format,
    "speed": "{} km/h".format, "percent": r"{}\%".format, "percent word": "{} percent".format,
    "degrees": r"{}^\circ".format, "variable": "x = {}".format, "named": "total cost = {}".format,
    "equation": "2 * 3 = {}".format, "backwards": "{} = 2 * 3".format, "bold": "**{}** apples".format,
    "about": "about {}".format, "approximately": r"\approx {}".format, "clause": "{}, because it is".format,
    "counted": "{} apples in total".format, "in brackets": "{} (all of them)".format, "fraction": "{}/1".format,
    "latex fraction": r"\dfrac{{{}}}{{1}}".format, "half": lambda n: rf"\frac{{{2 * n}}}{{2}}",
    "sentence": "Ann has {} apples".format, "ordinal": "{}th".format, "power": lambda n: rf"{n} \times 10^0",
    "thousand": lambda n: f"{Fraction(n, 1000).numerator}/{Fraction(n, 1000).denominator} thousand",
    "k": lambda n: f"{n / 1000:.3f}k", "million": lambda n: f"${n / 10**6:.6f} million",
    "dozen": lambda n: f"{Fraction(n, 12).numerator}/{Fraction(n, 12).denominator} dozen eggs",
}  # fmt: skip


@settings(max_examples=20)
@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_layouts(n: int, more: int) -> None:
    for name, write in LAYOUTS.items():
        assert number(write(n)) == n, name
        pairs = [(str(n), write(n)), (str(n), write(n + more)), (str(n + more), write(n))]
        assert Number().right(pairs) == [True, False, False], name


@settings(max_examples=20)
@given(
    st.integers(1, 10**6), st.sampled_from(["-{}", "−{}", "–{}", "- {}", "-${}", "$-{}$", "negative {}", "minus {}"])
)
def test_negative(n: int, sign: str) -> None:
    assert number(sign.format(n)) == -n
    assert Number().right([(str(n), sign.format(n))]) == [False]


@settings(max_examples=30)
@given(st.integers(0, 99), st.integers(1, 20), st.integers(2, 30), st.sampled_from(["", "-", "–"]))
def test_mixed_numbers(whole: int, top: int, bottom: int, sign: str) -> None:
    for text in (
        rf"{sign}{whole} {top}/{bottom}", rf"{sign}{whole}\frac{{{top}}}{{{bottom}}}",
        rf"{sign}{whole} and {top}/{bottom}", rf"{sign}{whole}\ \tfrac{{{top}}}{{{bottom}}}",
    ):  # fmt: skip
        value = (whole + Fraction(top, bottom)) * (-1 if sign else 1)
        assert number(text) == (value if top < bottom else None), text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5 million", 5_000_000), ("1.5 million dollars", 1_500_000), ("5 hundred thousand", 500_000), ("5k", 5000),
        ("5 dozen", 60), ("12 dozens of eggs", 144), ("3 billion", 3 * 10**9), (r"3 \times 10^{8}", 3 * 10**8),
        ("2 * 10^-2", Fraction(1, 50)), (r"\frac34", Fraction(3, 4)), ("18 quarters", 18), ("18 times", 18),
        (r"\text{\frac{46}{81}}", Fraction(46, 81)),
        ("18 K", 18), ("2 pairs of socks", 2), ("the total is 18", 18), ("It is 18 dollars per day", 18),
        # not plainly one number
        ("3 7", None), ("5 pi", None), (r"5\pi", None), ("5 or 6", None), ("5, 6", None), ("5 and 6", None),
        ("5 to 6", None),
        ("5-6", None), ("5 – 6", None), ("not 5", None), ("5 is wrong", None), ("5 not 6", None),
        ("at least 5", None),
        ("more than 5", None), ("5 and a half", None), ("half of 5", None), ("3 quarters", None), ("5 five", None),
        ("5 squared", None), ("5!", None), ("sqrt 5", None), ("5 x", None), ("x + 3 = 5", None), ("2x = 5", None),
        ("x = 5 or x = 6", None), ("x >= 5", None), ("4 = 5", None), ("Step 5", None), ("option 5", None),
        ("5:30", None),
        ("1.2.3", None), ("12,34", None), ("1 23", None), ("5e3", None), ("3 1/0", None), ("1/2/3", None),
        ("five", None),
        ("$5 and $6", None), ("5 apples and 6 pears", None), ("5 (6", None), ("10^999", None), ("1 * 10^999", None),
    ],
)  # fmt: skip
def test_numbers_and_what_is_none(text: str, value: Fraction | int | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is St. Paul. I hope this helps.", "St. Paul"),
        ("The answer is Paris. It is in France.", "Paris"),
        ("Answer: J. K. Rowling", "J. K. Rowling"),
        ("Answer: 3\nWait. Answer:", None),  # cut off while it wrote its last answer
        ("Answer: 3. The last answer isn't 4.", "3"),
        ("#### Step 1: count\n5 and 6\n#### Conclusion", None),
        ("Answer choices: A, B", None),
        ("My answer is helpful.", None),
        ("I put it into <answer> tags.\n<answer>5 < 6</answer>", "5 < 6"),
    ],
)
def test_what_is_taken_as_the_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("from 10-4 to 6", 6), ("it is −5", -5), ("so 3 to the 5-6", 6), (r"it is $\frac{1}{2}$", Fraction(1, 2)),
        ("that is 5 million", 5 * 10**6), ("that is 11 5/6 of it", Fraction(71, 6)),
        ("$1,234.50", Fraction("1234.5")),
        (r"it is $-\frac{1}{2}$.", Fraction(-1, 2)), ("there are –3 of them.", -3),
    ],
)  # fmt: skip
def test_the_last_number(text: str, value: Fraction | int) -> None:
    assert number(final_answer(text, "number") or "") == value


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", "B"), ("(b)", "B"), ("option B", "B"), ("choice (C)", "C"), ("the correct option is", None),
        ("B because", "B"),
        ("A, since it is", "A"), ("A: it is", "A"), ("A\nlot", "A"), ("A is right", "A"), ("A 12", "A"),
        ("(A) 12", "A"),
        ("A. 12", "A"), ("A) 12", "A"), ("A - 12", "A"), ("Option A.", "A"),
        ("A lot of work", None), ("I think so", None), ("I am unsure", None), ("D major", None), ("A or B", None),
        ("(A) or (B)", None), ("A, B", None), ("A/B", None), ("A and B", None), ("A.D. 70", None),
        ("B vitamins", None),
        ("b", None), ("An apple", None), ("(AB)", None),
    ],
)  # fmt: skip
def test_letters_in_prose(text: str, choice: str | None) -> None:
    assert letter(text) == choice
    for gold in "ABCDI":
        assert Letter().right([(gold, text)]) == [gold == choice]


@pytest.mark.parametrize("layout", ["{}", "({})", "option {}", "{}) 12"])
def test_endings_of_choices(layout: str) -> None:
    odd = ("dollars", "=", "apples", "approximately", "see above")
    for ending in (e for e in ENDINGS if not any(word in e for word in odd)):
        for said in "ABI":
            answer = final_answer(ending.format(layout.format(said)))
            right = [gold == said for gold in "ABI"]
            assert Letter().right([(gold, answer or "") for gold in "ABI"]) == right, (ending, said, answer)


def test_spaces_between_digits_count() -> None:
    assert same_text("x + 1", "x+1")
    assert same_text(r"\text{no solution}", "no solution")
    assert not same_text("37", "3 7")
    assert not same_text("1, 2", "12")


def test_exact_words_behind_politeness() -> None:
    answer = final_answer("The answer is **Paris**. I hope it is correct.")
    assert Exact().right([("paris", answer or ""), ("France", answer or "")]) == [True, False]
