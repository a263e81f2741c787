"""Provides tiny rows in the schemas of the public data sets, so that no test downloads one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def gsm8k(n: int, start: int = 0) -> Rows:
    return [
        {
            "question": f"Ann has {i} pens and buys {i + 1}. How many has she?",
            "answer": f"She has {i}+{i + 1}=<<{i}+{i + 1}={2 * i + 1}>>{2 * i + 1} pens.\n#### {2 * i + 1:,}",
        }
        for i in range(start, start + n)
    ]


def solved(n: int, start: int = 0) -> Rows:
    """MATH as on the hub: no field `answer`; the answer is in the last box of `solution`."""
    return [
        {
            "problem": f"Compute $\\frac{{{i}}}{{7}}+1$.",
            "level": "Level 1",
            "type": "Algebra",
            "solution": f"Not \\boxed{{0}}. It is $\\boxed{{\\frac{{{i + 7}}}{{7}}}}$.",
        }
        for i in range(start, start + n)
    ]


def deepscaler(n: int) -> Rows:
    rows = [{"problem": f"Find $x$ with $x-{i}=1$.", "answer": str(i + 1), "solution": ""} for i in range(n)]
    return [*rows, {"problem": "Prove it.", "answer": "", "solution": "Clear."}]


def aime24(n: int = 4) -> Rows:
    return [
        {"id": i, "problem": f"AIME problem {i}?", "solution": f"$\\boxed{{{i:03d}}}$", "answer": f"{i:03d}",
         "url": "", "year": "2024"}
        for i in range(n)
    ]  # fmt: skip


def aime25(n: int = 4) -> Rows:
    return [{"problem": f"AIME 2025 problem {i}?", "answer": str(i + 70), "id": str(i)} for i in range(n)]


def dapo(problems: Sequence[str]) -> Rows:
    before = (
        "Solve the following math problem step by step. The last line of your response should be of the form "
        "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
    )
    after = '\n\nRemember to put your answer on its own line after "Answer:".'
    return [
        {
            "data_source": "math_dapo",
            "prompt": [{"role": "user", "content": before + text + after}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(34 + i), "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": f"i{i}"},
        }
        for i, text in enumerate(problems)
    ]


def openr1(n: int) -> Rows:
    rows: Rows = []
    for i in range(n):
        good = f"<think>\nIt is {i}*2, so {2 * i}.\n</think>\n\nThe answer is \\boxed{{{2 * i}}}."
        other = f"<think>\nLet me see.\n</think>\n\nTwice {i}: \\boxed{{{2 * i}}}"
        rows.append(
            {
                "problem": f"What is twice {i}?",
                "solution": f"\\boxed{{{2 * i}}}",
                "answer": str(2 * i),
                "problem_type": "Algebra",
                "source": "olympiads",
                "uuid": f"u{i}",
                "generations": [good, "<think>\nI stopped in the middle", other],
                "is_reasoning_complete": [True, False, True],
                "correctness_math_verify": [True, False, i % 2 == 0],
                "messages": [
                    {"role": "user", "content": f"What is twice {i}?"},
                    {"role": "assistant", "content": good},
                ],
            }
        )
    return rows


def mmlu(n: int, start: int = 0, subjects: Sequence[str] = ("abstract_algebra", "virology")) -> Rows:
    return [
        {
            "question": f"Which of these is {i} in {subject}?",
            "subject": subject,
            "choices": [str(i + (k - i) % 4) for k in range(4)],
            "answer": i % 4,
        }
        for subject in subjects
        for i in range(start, start + n)
    ]


def write(path: Path, rows: Rows) -> Path:
    """Writes JSON lines or parquet, by the suffix of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
