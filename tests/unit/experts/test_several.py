"""Several experts as one: which prompt has which, and answers in the order of the questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from understudy.config import ExpertSpec
from understudy.errors import UserError
from understudy.evaluation.config import PromptsConfig
from understudy.evaluation.prompts import look
from understudy.experts import load_expert
from understudy.experts.assignment import assignment_of, named
from understudy.experts.several import SeveralExperts, SeveralSteps, common
from understudy.policy import Policy, load_policy
from understudy.protocols import Stepper
from understudy.tasks import load_task


@pytest.mark.parametrize(
    ("value", "name"),
    [("en", "en"), ("Number Theory", "Number_Theory"), ("Counting & Probability", "Counting_Probability"), (3, "3"),
     (2.0, "2"), (0.5, "0.5"), (True, "true"), (None, "none"), ("a/b=c", "a_b_c")],
)  # fmt: skip
def test_values_as_names(value: Any, name: str) -> None:
    assert named(value) == name


def test_rows_of_a_file_have_the_expert_that_a_column_names(tmp_path: Path) -> None:
    """With the file and the line of a row that has none, and an expert that only held-out rows have."""
    file, held_out = tmp_path / "q.jsonl", tmp_path / "test.jsonl"
    rows = [f'{{"question": "Is it {i}?", "answer": "{i}", "subject": "{"ab"[i % 2]}"}}' for i in range(12)]
    file.write_text("\n".join(rows[:8]))
    held_out.write_text("\n".join(rows[8:]).replace('"b"', '"d"'))
    task = load_task(f"data:path={file},test_path={held_out},template=plain")
    known = assignment_of("a=solver b=x", "subject", task)
    known.check(0, ())
    assignment_of("a=x b=y d=z", "subject", task).check(0, ("test",))
    with pytest.raises(UserError, match=r"subject=d: of prompt .*test\.jsonl"):
        known.check(0, ("test",))
    assert known.shares(0) == {"a": 0.5, "b": 0.5}
    with pytest.raises(UserError, match=r"subject=b: of prompt .*q.jsonl, line \d+\) names none of the experts a, c"):
        assignment_of("a=x c=y", "subject", task).shares(0)
    with pytest.raises(UserError, match=r"expert_of: level: prompt .* has no such field; it has task, .*subject"):
        assignment_of("a=x b=y", "level", task).check(0, ())
    with pytest.raises(UserError, match=r"expert: c: is the expert of no prompt, by subject \(a 4, b 4\)"):
        assignment_of("a=x b=y c=z", "subject", task).check(0, ())


@pytest.fixture
def student(models: dict[str, Path]) -> Policy:
    return load_policy(str(models["llama"]), "student", device="cpu")


def test_answers_are_those_of_each_expert_alone(student: Policy, models: dict[str, Path]) -> None:
    """Catches answers out of order, and random numbers that depend on who else is in the batch."""
    task = load_task("kinds")
    spec = ExpertSpec(f"a={models['qwen2']} b=solver", device="cpu", expert_of="kind")
    both = load_expert(spec, task, student)
    assert isinstance(both, SeveralExperts)
    prompts = student.encode(task.prompts("train", 7, 0))
    kinds = [task.fields(p)["kind"] for p in prompts]
    assert set(kinds) == {"a", "b"}
    drawn = both.sample(prompts, 2, 3, 12)
    assert not both.has_greedy(), "the program has no greedy decoder"
    scores, entries = both.score(drawn), both.entries(drawn, 3)
    for i, (p, kind) in enumerate(zip(prompts, kinds)):
        alone = both.several[kind].sample([p], 2, 3, 12)
        assert [r.ids for r in drawn[2 * i : 2 * i + 2]] == [r.ids for r in alone]
        assert [(r.prompt, r.sample) for r in drawn[2 * i : 2 * i + 2]] == [(p, 0), (p, 1)]
        for j in (2 * i, 2 * i + 1):
            torch.testing.assert_close(scores[j], both.several[kind].score([drawn[j]])[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(entries[j]["logp"], scores[j], atol=1e-5, rtol=0)
            assert entries[j]["top_ids"].shape == (len(drawn[j].ids), 3)
    assert both.keep_bytes() == 0
    assert [set(e) for e in both.keep(drawn[:2], 3)] == [{"top_ids", "top_logp"}] * 2
    assert both.prompt_tokens(prompts) == sum(len(p.ids) for p in prompts)


class Rows(Stepper):
    """Each row says its own name and how often it has advanced."""

    def __init__(self, names: Sequence[int]) -> None:
        self.state = torch.tensor([[float(n), 0.0, 0.0] for n in names])

    def next_logits(self) -> Tensor:
        return self.state.clone()

    def advance(self, tokens_B: Tensor) -> None:
        self.state[:, 1] += 1
        self.state[:, 2] += tokens_B

    def keep(self, rows: Tensor) -> None:
        self.state = self.state[rows]


@pytest.mark.parametrize("seed", range(5))
def test_rows_leave_in_any_order(seed: int) -> None:
    """Like one stepper with all rows. Catches rows that are mixed up once some of another expert have ended."""
    g = torch.Generator().manual_seed(seed)
    owner = torch.randint(0, 3, (9,), generator=g)
    which = [(owner == k).nonzero()[:, 0].tolist() for k in range(3)]
    which = [w for w in which if w]
    whole, several = Rows(range(9)), SeveralSteps([Rows(w) for w in which], which)
    live = 9
    while live:
        assert torch.equal(several.next_logits(), whole.next_logits())
        tokens = torch.randint(0, 5, (live,), generator=g)
        left = (torch.rand(live, generator=g) < 0.7).nonzero()[:, 0]
        for stepper in (whole, several):
            stepper.advance(tokens)
            stepper.keep(left)
        live = len(left)


def test_what_all_can_do() -> None:
    model, server = frozenset({"sample", "score", "distribution"}), frozenset({"sample", "score", "top_k"})
    foreign, texts = frozenset({"sample", "score", "matched"}), frozenset({"sample"})
    assert common([model, model]) == model
    assert common([model, server]) == server
    assert common([model, foreign]) == foreign
    assert common([server, foreign]) == {"sample", "score"}
    assert common([model, texts]) == texts


def test_prompts_as_each_expert_reads_them() -> None:
    config = PromptsConfig("kinds", "scratch", "a=self:context=gold b=solver", "kind", n=6)
    shown = look(config)
    assert shown["experts"]["b"].startswith("a program")
    for p in shown["prompts"]:
        assert ("with_context" in p) == (p["of"] == "a")
    assert {p["of"] for p in shown["prompts"]} == {"a", "b"}
    with pytest.raises(UserError, match="expert_of: is for several"):
        look(PromptsConfig("kinds", "scratch", "a=solver b=solver"))
