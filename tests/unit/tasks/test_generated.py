"""Addition and classification: disjoint splits, verifiers that never raise, experts with exact probabilities."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import UserError
from understudy.protocols import Expert, Task
from understudy.specs import parse_spec
from understudy.tasks import load_task
from understudy.tasks.addition import AdditionConfig, AdditionTask
from understudy.tasks.classify import ClassifyConfig, ClassifyTask
from understudy.types import Prompt, Rollout

SPECS = (
    "addition", "addition:format=direct,digits=2", "classify", "classify:rule=count,classes=2",
    "classify:rule=majority,classes=2,relevant=7",
)  # fmt: skip
each_task = pytest.mark.parametrize("spec", SPECS)
SCRATCH, DIRECT = AdditionTask(), AdditionTask(AdditionConfig(format="direct", attempts=2))
PROMPT = Prompt("p", "047+585\n", {"a": 47, "b": 585, "digits": 3})


def names(prompts: list[Prompt]) -> set[Any]:
    return {p.data.get("bits") or frozenset((p.data["a"], p.data["b"])) for p in prompts}


@cache
def loaded(spec: str) -> Task:
    return load_task(spec)


def expert(task: Any, spec: str) -> Any:
    return task.expert(parse_spec(spec, "expert"), task.tokenizer())


def rollout(task: Any, prompt: Prompt, text: str, ended: bool = True) -> Rollout:
    tokenizer = task.tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] * ended
    return Rollout(prompt, 0, tuple(ids), (0.0,) * len(ids), ended, text, "student")


@each_task
def test_streams_are_functions_of_their_names_and_keep_the_wall(spec: str) -> None:
    task = load_task(spec)
    assert isinstance(task, Task)
    seen = {}
    for split in task.splits:
        whole = task.prompts(split, 400, seed=3)
        assert load_task(spec).prompts(split, 100, seed=3, start=300) == whole[300:]
        assert task.prompts(split, 400, seed=4) != whole
        assert all(task.verify(p, task.gold(p), True) == 1.0 for p in whole)
        seen[split] = names(task.prompts(split, 3000, seed=5))
    assert not seen["train"] & (seen["test"] | seen["ood"])
    assert not seen["test"] & seen["ood"]


@each_task
def test_held_out_prompts_come_back_only_after_all_others(spec: str) -> None:
    prompts = load_task(spec).prompts("test", 240, seed=0)
    assert len({p.key for p in prompts}) == len(names(prompts)) == 240


@each_task
@settings(max_examples=200)
@given(text=st.one_of(st.text(), st.text(alphabet="01234567 oknab=\n~٣", max_size=60)), ended=st.booleans())
def test_the_verifier_never_raises_and_gold_is_short(spec: str, text: str, ended: bool) -> None:
    task = loaded(spec)
    prompt = task.prompts("test", 1, seed=0)[0]
    assert task.verify(prompt, text, ended) in (0.0, 1.0)
    assert task.verify(prompt, text * 1000 + "x", ended) == 0.0
    assert len(task.tokenizer()(task.gold(prompt))["input_ids"]) <= task.max_new_tokens


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("110=0632 ok", 1), ("000=0632 ok", 1), ("110=0622 no\n110=0632 ok", 1), ("~abc\n110=0632 ok", 1),
        ("0632 ok", 0), ("110=632 ok", 0), ("110=0632 no", 0), ("110=0632", 0), ("110=0632 ok ok", 0),
        ("112=0632 ok", 0), ("110=0632 ok\n", 0), ("110=0622 ok\n110=0632 ok", 0), ("110=00632 ok", 0),
        ("110=٠٦٣٢ ok", 0), ("110=0632 no\n" * 3 + "110=0632 ok", 0), ("", 0),
    ],
)  # fmt: skip
def test_what_addition_accepts(text: str, reward: float) -> None:
    assert SCRATCH.verify(PROMPT, text, True) == reward
    assert SCRATCH.verify(PROMPT, text, False) == 0.0


def test_addition_can_attempt_each_pattern_of_carries_once() -> None:
    assert dict(DIRECT.candidates(PROMPT))["0632"]
    for task, length in ((SCRATCH, 8), (DIRECT, 4)):
        for prompt in task.prompts("train", 200, seed=0):
            candidates = task.candidates(prompt)
            assert len({text for text, _ in candidates}) == 8
            assert {len(text) for text, _ in candidates} == {length}
            assert [text[-4:] for text, right in candidates if right] == [f"{prompt.data['a'] + prompt.data['b']:04d}"]


def test_out_of_distribution_prompts_are_longer() -> None:
    assert {p.data["digits"] for p in SCRATCH.prompts("ood", 50, 0)} == {4}
    assert {len(p.data["bits"]) for p in ClassifyTask().prompts("ood", 50, 0)} == {11}


def test_the_solver_adds_and_its_law_over_attempts_is_the_stated_one() -> None:
    """Sum of exact prefix scores over every attempt that can be written: p_right on the right one, the rest evenly."""
    sure = expert(DIRECT, "solver:p_right=1")
    prompts = DIRECT.prompts("test", 40, seed=0)
    assert all(DIRECT.verify(r.prompt, r.text, r.ended) for r in sure.sample(prompts, 2, 0, 40))
    solver = expert(DIRECT, "half:smoothing=1e-9")
    total = 0.0
    for text, right in DIRECT.candidates(PROMPT):
        p = math.exp(float(solver.score([rollout(DIRECT, PROMPT, text + " ok")])[0].sum()))
        assert p == pytest.approx(0.5 if right else 0.5 / 7, rel=1e-4)
        total += p
    assert total == pytest.approx(1, abs=1e-5)


def test_an_honest_solver_rejects_a_students_wrong_sum() -> None:
    solver = expert(SCRATCH, "solver")
    ids = rollout(SCRATCH, PROMPT, "110=0622 no")
    assert solver.score([ids])[0][8] == pytest.approx(math.log(0.999 + 0.001 / 262), abs=1e-5), (
        "verdict after a wrong sum"
    )
    assert solver.provenance["realizable"] is None
    assert "step by step" in solver.provenance["mechanism"]
    assert expert(DIRECT, "solver").provenance["realizable"] is False


# ---------------------------------------------------------------- classification


@pytest.mark.parametrize("rule", ["count", "majority", "lookup"])
def test_the_class_depends_on_the_first_bits_alone(rule: str) -> None:
    task = ClassifyTask(ClassifyConfig(rule=rule, classes=2, relevant=3))
    labels: dict[str, set[int]] = {}
    for p in task.prompts("train", 2000, 0):
        labels.setdefault(p.data["bits"][:3], set()).add(task.label(p))
    assert len(labels) == 8
    assert all(len(found) == 1 for found in labels.values())
    if rule != "lookup":
        for bits in map("".join, product("01", repeat=3)):
            ones = bits.count("1")
            assert labels[bits] == {ones % 2 if rule == "count" else int(ones >= 2)}


def test_a_completion_is_one_token() -> None:
    task = ClassifyTask()
    labeller = expert(task, "labeller:p_right=1,smoothing=0")
    assert isinstance(labeller, Expert)
    assert labeller.capabilities == {"sample"}
    for r in labeller.sample(task.prompts("test", 20, 0), 1, 0, task.max_new_tokens):
        assert len(r.ids) == 1
        assert task.verify(r.prompt, r.text, r.ended) == 1.0


def test_labeller_samples_what_it_scores_and_scores_its_law() -> None:
    task = ClassifyTask()
    prompt = task.prompts("train", 1, 0)[0]
    labeller = expert(task, "labeller:p_right=0.55,wrong=uniform,smoothing=0.01")
    law = [0.15] * 4
    law[task.label(prompt)] = 0.55
    scores = [math.exp(float(labeller.score([rollout(task, prompt, x, ended=False)])[0])) for x in task.labels]
    assert scores == pytest.approx([0.99 * p + 0.01 / 262 for p in law], rel=1e-5)
    dense = labeller.distribution([rollout(task, prompt, "z", ended=False)])[0]
    assert torch.logsumexp(dense, -1).item() == pytest.approx(0, abs=1e-5)
    counts = Counter(r.text for r in labeller.sample([prompt], 4000, 0, 1))
    for x, p in zip(task.labels, scores):
        assert counts[x] / 4000 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 4000))


@pytest.mark.parametrize(("wrong", "p_right"), [("uniform", 0.7), ("next", 0.4)])
def test_a_secret_is_certain_on_each_prompt_and_right_as_often_as_stated(wrong: str, p_right: float) -> None:
    task = ClassifyTask()
    secret = expert(task, f"secret:p_right={p_right},wrong={wrong}")
    prompts = task.prompts("train", 4000, 0)
    offsets = Counter()
    for p in prompts:
        law = secret.law(p)
        assert sorted(law) == [0, 0, 0, 1]
        offsets[(law.index(1) - task.label(p)) % 4] += 1
    n = len(names(prompts))  # the unit is the string, not the draw
    assert offsets[0] / 4000 == pytest.approx(p_right, abs=4 * math.sqrt(p_right * (1 - p_right) / n))
    assert set(offsets) == ({0, 1} if wrong == "next" else {0, 1, 2, 3})
    assert secret.provenance["realizable"] is False


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("addition:format=x", "task.format"), ("addition:digits=1", "task.digits"),
        ("addition:ood_digits=3", "task.ood_digits"), ("addition:attempts=0", "task.attempts"),
        ("addition:test_share=1", "task.test_share"), ("addition:colour=red", "task.colour"),
        ("classify:rule=x", "task.rule"), ("classify:bits=3", "task.bits"), ("classify:relevant=11", "task.relevant"),
        ("classify:classes=1", "task.classes"), ("classify:rule=majority", "task.classes"),
        ("classify:ood_bits=10", "task.ood_bits"), ("classify:test_share=0", "task.test_share"),
        ("addition:test_share=1e-9", "task.test_share"), ("classify:test_share=1e-9", "task.test_share"),
    ],
)  # fmt: skip
def test_mistakes_name_their_field(spec: str, field: str) -> None:
    with pytest.raises(UserError) as error:
        load_task(spec)
    assert error.value.field == field


@pytest.mark.parametrize(
    "spec", ["labeller:p_right=2", "labeller:noise=x", "labeller:wrong=x", "labeller:smoothing=1", "solver"]
)
def test_an_expert_that_is_no_labeller_is_refused(spec: str) -> None:
    with pytest.raises(UserError):
        expert(ClassifyTask(), spec)


def test_unknown_splits_are_refused() -> None:
    for task in (SCRATCH, ClassifyTask()):
        with pytest.raises(UserError):
            task.prompts("validation", 1, 0)
