"""The student as its own expert: the same weights, another prompt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import config

from understudy.config import ExpertSpec, TrainConfig
from understudy.errors import UserError
from understudy.experts import load_expert, privileged
from understudy.experts.privileged import SelfConfig, SelfExpert, with_context
from understudy.methods.kernel import token_losses
from understudy.methods.losses import Objective, divergence, scales
from understudy.policy import Policy, load_policy, pad
from understudy.policy.sampling import draw
from understudy.runs.read import read_metrics, read_provenance
from understudy.tasks import load_task
from understudy.training.train import train
from understudy.types import Batch, Prompt, Rollout

TASK = load_task("countdown")


@pytest.fixture
def student(models: dict[str, Path]) -> Policy:
    return load_policy(str(models["llama"]), "student", device="cpu")


def sampled(policy: Policy) -> list[Rollout]:
    prompts = policy.encode(TASK.prompts("train", 4, seed=1))
    return draw(policy.start, policy.decode, policy.end_ids, prompts, 2, 4, 10, "student")


def expert_of(text: str, student: Policy, **more: Any) -> SelfExpert:
    expert = load_expert(ExpertSpec(text, student=student.name, device="cpu", **more), TASK, student)
    assert isinstance(expert, SelfExpert)
    return expert


def test_prompts_with_a_context() -> None:
    plain = dataclasses.replace(TASK.prompts("train", 1, 0)[0], ids=(1, 2))
    gold = TASK.gold(plain)
    words = with_context(plain, TASK, SelfConfig())
    assert (words.text, words.ids) == (f"Reference answer:\n{gold}\n\n{plain.text}", ())
    assert with_context(plain, TASK, SelfConfig(style="bare")).text == f"{gold}\n{plain.text}"
    assert words.key == plain.key, "random numbers must not change"
    chat = dataclasses.replace(plain, messages=(("system", "S"), ("user", "U")), prefill="P")
    (system, (role, content)) = with_context(chat, TASK, SelfConfig()).messages
    assert system == ("system", "S")
    assert role == "user"
    assert content.startswith("U\n\n")
    assert f"\n{gold}\n" in content
    hinted = dataclasses.replace(plain, data={**plain.data, "row": {"hint": "try 7"}})
    assert with_context(hinted, TASK, SelfConfig(context="hint", style="bare")).text == f"try 7\n{plain.text}"
    with pytest.raises(UserError, match="no such column; it has gold, demonstration, hint"):
        with_context(hinted, TASK, SelfConfig(context="tip"))


def test_it_says_what_the_policy_says_after_the_other_prompt(student: Policy) -> None:
    """Catches scores at the student's own prompt, or at another rollout's."""
    rollouts, expert = sampled(student), expert_of("self:context=gold,frozen=false", student)
    theirs = [
        dataclasses.replace(r, prompt=student.encode([with_context(r.prompt, TASK, SelfConfig())])[0]) for r in rollouts
    ]
    for got, want, own in zip(expert.score(rollouts), student.score(theirs), student.score(rollouts)):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
        assert not torch.allclose(got, own, atol=1e-2)
    signal, tables = expert.signal([rollouts[:2], rollouts[2:4]]), student.distribution(theirs[:4])
    torch.testing.assert_close(signal.table(slice(0, sum(map(len, tables)))), torch.cat(tables), atol=1e-5, rtol=0)
    written = expert.sample(student.encode(TASK.prompts("train", 2, 0)), 1, 0, 8)
    assert [r.prompt.text for r in written] == [p.text for p in TASK.prompts("train", 2, 0)]


@pytest.mark.parametrize("style", ["words", "bare"])
@pytest.mark.parametrize("kind", ["kl_student_expert", "kl_expert_student", "jsd"])
def test_the_gradient_is_that_of_the_divergence_from_the_other_prompt(kind: str, style: str, student: Policy) -> None:
    """In float64 through the kernel of training, live: the student moves at its own prompt, and stands still at the
    expert's. Catches a gradient through the expert, which is the same model."""
    student.model.double()
    expert = expert_of(f"self:frozen=false,style={style}", student)
    rollouts = sampled(student)
    packs = [[r] for r in rollouts]
    padded = pad(packs, student.pad_id)
    n = len(padded.row_N)
    batch = Batch(
        padded.input_ids_BS, padded.attention_mask, padded.position_ids_BS, padded.place_N, padded.action_ids_N,
        padded.row_N, torch.ones(n, dtype=torch.float64), None, expert.signal(packs),
    )  # fmt: skip
    with torch.no_grad():
        theirs = expert.seen([r.prompt for r in rollouts])
        moved = [[dataclasses.replace(r, prompt=p)] for r, p in zip(rollouts, theirs)]
        want_NV = student.signal(moved).table(slice(0, n)).clone()
    parameters = [p for p in student.model.parameters() if p.requires_grad]
    scale_N = scales(batch.row_N, "token_mean").double()
    loss = token_losses(student.hidden(batch), student.head, batch, Objective("distribution", kind, 0.3), scale_N).total
    got = torch.autograd.grad(loss, parameters)
    own_NV = student.head(student.hidden(batch)).log_softmax(-1)
    plain = (divergence(own_NV, want_NV, kind, 0.3) * scale_N).sum()
    for a, b in zip(got, torch.autograd.grad(plain, parameters), strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=0)
    assert float(loss) == pytest.approx(float(plain), abs=1e-8)


def test_memory_is_shared_where_it_can_be(student: Policy) -> None:
    live, frozen = (expert_of(f"self:frozen={x}", student) for x in ("false", "true"))
    assert live.policy is student
    assert frozen.policy is not student
    assert (live.keep_bytes(), frozen.keep_bytes() > 0) == (0, True)
    rollouts = sampled(student)
    before = [torch.cat(e.score(rollouts)) for e in (live, frozen)]
    torch.testing.assert_close(*before)
    with torch.no_grad():
        for p in student.model.parameters():
            p.mul_(1.1)
    after = [torch.cat(e.score(rollouts)) for e in (live, frozen)]
    assert not torch.allclose(before[0], after[0], atol=1e-2)
    assert torch.equal(before[1], after[1])
    with pytest.raises(UserError, match="leave it out"):
        expert_of("self", student, score_cache="folder")


def test_with_an_adapter_the_start_is_no_second_copy(student: Policy) -> None:
    student.adapt(2, 4.0, 0.0, "all-linear", 0)
    frozen = expert_of("self:frozen=true", student)
    assert frozen.policy.model is student.model
    rollouts = sampled(student)
    before = torch.cat(frozen.score(rollouts))
    with torch.no_grad():
        for p in student.trained().values():
            p.add_(0.5)
    assert torch.equal(before, torch.cat(frozen.score(rollouts)))
    assert not torch.allclose(torch.cat(expert_of("self:frozen=false", student).score(rollouts)), before, atol=1e-2)


def losses_of(out: Path, method: str, **changes: Any) -> list[float]:
    fields: dict[str, Any] = {"student": "scratch:width=16,layers=1,heads=2,context=256", "updates": 3}
    c: TrainConfig = config(method, out, **(fields | changes))
    return [line["loss"] for line in read_metrics(train(c), "train")]


@pytest.mark.parametrize("method", ["opd", "opd_full", "opd_full_reward"])
def test_frozen_and_live_part_after_the_first_update(method: str, tmp_path: Path) -> None:
    """Catches an expert that is frozen where it should move, and the reverse."""
    frozen, live = (losses_of(tmp_path / x, method, expert=f"self:frozen={x}") for x in ("true", "false"))
    assert frozen[0] == live[0]
    assert frozen[1:] != live[1:]
    assert read_provenance(tmp_path / "true")["expert"]["provenance"]["kind"] == "self"


def test_it_is_evaluated_with_its_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches held-out completions of the expert that are the student's own: they were."""
    splits: list[str] = []
    seen = SelfExpert.seen

    def watched(self: SelfExpert, prompts: Any) -> Any:
        splits.extend("train" if "@" in p.key else "test" for p in prompts)
        return seen(self, prompts)

    monkeypatch.setattr(SelfExpert, "seen", watched)
    losses_of(tmp_path / "run", "opd", expert="self:context=gold", eval_expert=True, updates=1)
    assert "test" in splits


def test_without_a_context_there_is_nothing_to_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches any other difference between student and expert: with the student's own prompt the KL is 0."""

    def same(prompt: Prompt, *_: Any) -> Prompt:
        return prompt

    monkeypatch.setattr(privileged, "with_context", same)
    assert losses_of(tmp_path / "run", "opd_full", expert="self:frozen=false") == pytest.approx([0.0] * 3, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "expert", "line"),
    [
        ("sft", "self:frozen=false", "frozen: .*old after a few updates"),
        ("opd", "self:context=hint", "context: .*no such column; it has gold, demonstration"),
        ("opd", "self:contxt=gold", "contxt: .*unknown"),
        ("opd", "self:style=loud", "style: .*unknown; one of words, bare"),
    ],
)
def test_refused_before_anything_is_loaded(method: str, expert: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line) as error:
        losses_of(tmp_path / "run", method, expert=expert)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
