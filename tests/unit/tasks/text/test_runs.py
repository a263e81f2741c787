"""Runs on tasks from data sets, with tiny models: recorded experts, choices by log-prob, stop tokens, evaluation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import public_rows as public
import pytest
import torch
from tiny import config

from understudy.cli.main import main
from understudy.errors import UserError
from understudy.evaluation.choices import choose
from understudy.evaluation.sampled import held_out, sample_policy, splits_of
from understudy.experts.local import LocalExpert
from understudy.experts.recorded import RecordedExpert
from understudy.policy import load_policy, make_scratch
from understudy.policy.tokens import at_most, without_end, without_opening
from understudy.protocols import Expert
from understudy.runs.read import read_final, read_ledger, read_metrics
from understudy.specs import parse_spec
from understudy.tasks import load_task
from understudy.training.train import train

TINY = "scratch:width=16,layers=1,heads=2,context=1024"


@pytest.fixture
def gsm8k(tmp_path: Path) -> str:
    public.write(tmp_path / "g/train.jsonl", public.gsm8k(12))
    public.write(tmp_path / "g/test.jsonl", public.gsm8k(3, start=100))
    return f"gsm8k:path={tmp_path / 'g'},template=chat"


@pytest.fixture
def openr1(tmp_path: Path) -> str:
    return f"openr1:path={public.write(tmp_path / 'r1.jsonl', public.openr1(40))},traces=true,verifier=number"


def policy(task: Any, spec: str = TINY) -> Any:
    return make_scratch(parse_spec(spec, "student"), task.tokenizer(), seed=3)


# ---------------------------------------------------------------- recorded experts


def test_recorded_rollouts_are_the_traces(openr1: str) -> None:
    """Catches traces of another prompt, a wrong generation that is kept, a lost or an invented end token, and samples
    of one prompt that are the same trace twice."""
    task = load_task(openr1)
    student = policy(task)
    expert = RecordedExpert(task, student.tokenizer, parse_spec("recorded", "expert")).for_student(student)
    prompts = student.encode(task.prompts("train", 8, 0))
    rollouts = expert.sample(prompts, 1, 5, 400)
    for p, r in zip(prompts, rollouts):
        assert r.text in task.traces(p)
        assert "stopped in the middle" not in r.text
        assert student.decode([r.ids]) == [r.text]
        assert r.ended
        assert r.ids[-1] == student.end_ids[0]
        assert task.verify(p, r.text, True) == 1.0
    assert [r.text for r in expert.sample(prompts[::-1], 1, 5, 400)] == [r.text for r in rollouts[::-1]]
    short = expert.sample(prompts, 1, 5, 10)
    assert not any(r.ended for r in short)
    assert all(len(r.ids) == 10 and student.end_ids[0] not in r.ids for r in short)
    two = [p for p in prompts if len(task.traces(p)) == 2]
    for a, b in zip(*[iter(expert.sample(two, 2, 0, 400))] * 2):
        assert a.text != b.text
    with pytest.raises(UserError, match="use at most that many"):
        expert.sample(prompts, 3, 0, 400)


@pytest.mark.parametrize("method", ["sft", "seq_kd"])
def test_sft_on_recorded_traces(method: str, openr1: str, tmp_path: Path) -> None:
    """A whole run: the ledger counts, the loss falls, and the expert is not evaluated on splits without traces."""
    c = config(
        method, tmp_path / "run", task=openr1, expert="recorded", student=TINY, updates=6, samples_per_prompt=1,
        prompt_pool=8, max_new_tokens=400, eval_expert=True, eval_splits="test,ood", lr=1e-2,
    )  # fmt: skip
    path = train(c)
    losses = [line["loss"] for line in read_metrics(path, "train")]
    assert losses[-1] < losses[0]
    final = read_final(path)
    assert final is not None
    assert set(final["splits"]) == {"test"}, "openr1 has no ood split, and the default asks for one"
    assert not final["expert"]
    assert read_ledger(path)["expert_tokens_sampled"] > 0


def test_recorded_experts_only_give_samples(openr1: str, gsm8k: str, tmp_path: Path) -> None:
    for method, message in (("opd", "cannot score, which method opd needs; it can sample"),
                            ("opd_full", "cannot distribution")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            train(config(method, tmp_path / method, task=openr1, expert="recorded", student=TINY))
    with pytest.raises(UserError, match="needs the traces: use --task gsm8k:traces=true"):
        train(config("sft", tmp_path / "x", task=gsm8k, expert="recorded", student=TINY))


def test_only_verified_traces(tmp_path: Path) -> None:
    """--weight passed keeps the traces that the verifier accepts."""
    rows = [
        {"prompt": f"{i}+1=", "answer": i + 1, "verifier": "number", "completions": [str(i + 1 + i % 2)]}
        for i in range(60)
    ]
    file = public.write(tmp_path / "d.jsonl", rows)
    c = config(
        "sft", tmp_path / "run", task=f"data:path={file},traces=true", expert="recorded", student=TINY, weight="passed",
        samples_per_prompt=1, prompts_per_update=16, updates=1,
    )  # fmt: skip
    (line,) = read_metrics(train(c), "train")
    assert line["reward"] == 1.0
    assert line["tokens"] < 16 * 4


# ---------------------------------------------------------------- choices


@pytest.fixture
def mmlu(tmp_path: Path) -> str:
    public.write(tmp_path / "m/dev.jsonl", public.mmlu(5))
    public.write(tmp_path / "m/test.jsonl", public.mmlu(6, start=100))
    return f"mmlu:path={tmp_path / 'm'},shots=1"


def test_choices_are_the_log_probs_of_the_letters(mmlu: str) -> None:
    """Against the plain model, one prompt at a time; by distributions and by scores alike; for an expert too."""
    task = load_task(mmlu)
    p = policy(task, TINY + ",init=0.5")
    prompts = held_out(task, p, "test", 50, 0, 8)
    assert len(prompts) == 12, "a split that is smaller than asked is used whole, nothing twice"
    chosen = choose(p, p, prompts)

    class ScoresOnly(Expert):
        capabilities = frozenset({"score"})
        score = staticmethod(p.score)

    for prompt, logp, scored, by_expert in zip(
        prompts, chosen, choose(p, ScoresOnly(), prompts), choose(p, LocalExpert(p), prompts)
    ):
        with torch.no_grad():
            table = p.model(torch.tensor([prompt.ids])).logits[0, -1].log_softmax(-1)
            expected = []
            for choice in prompt.data["choices"]:
                ids = p.tokenizer(choice)["input_ids"]
                logits = p.model(torch.tensor([[*prompt.ids, *ids]])).logits[0].log_softmax(-1)
                expected.append(sum(float(logits[len(prompt.ids) - 1 + i, t]) for i, t in enumerate(ids)))
            assert table.shape == (p.vocabulary,)
        np.testing.assert_allclose(logp, expected, atol=1e-4)
        np.testing.assert_allclose(scored, expected, atol=1e-4)
        np.testing.assert_allclose(by_expert, expected, atol=1e-4)
    done = sample_policy(p, task, prompts, 3, 0, 8)
    assert done.greedy is not None
    for r, logp in zip(done.greedy, chosen):
        assert r.text == r.prompt.data["choices"][int(logp.argmax())]
        assert r.reward == float(r.text.strip() == r.prompt.data["answer"])


def test_a_model_that_knows_the_letter(mmlu: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`understudy eval` on MMLU prints greedy accuracy by log-prob; a model that always says B gets the share of B."""
    task = load_task(mmlu)
    p = policy(task)
    with torch.no_grad():
        for name, w in p.model.named_parameters():
            if "norm" not in name and "embed" not in name:
                w.zero_()
    p.save(tmp_path / "model")
    assert main(["eval", "--model", str(tmp_path / "model"), "--task", mmlu, "--samples", "2", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["prompts"] == 12
    assert 0 <= output["measures"]["greedy"]["value"] <= 1
    assert output["length"] <= 3


def test_forgetting_is_a_split_of_a_run(gsm8k: str, mmlu: str, tmp_path: Path) -> None:
    """One run with several held-out splits: its own test split, and MMLU to measure forgetting."""
    where = mmlu.partition("path=")[2].partition(",")[0]
    public.write(Path(where) / "dev.jsonl", public.mmlu(5))
    c = config(
        "grpo", tmp_path / "run", task=f"{gsm8k},forget=mmlu,forget_path={where},max_new_tokens=8", expert="",
        student=TINY + "0", eval_splits="test,forget", final_prompts=5, updates=1,
    )  # fmt: skip
    final = read_final(train(c))
    assert final is not None
    assert {k: len(v["keys"]) for k, v in final["splits"].items()} == {"test": 3, "forget": 5}
    assert {k.split()[0] for k in final["splits"]["forget"]["keys"]} == {"mmlu"}


# ---------------------------------------------------------------- ends and splits


def test_stop_tokens_end_a_completion(tmp_path: Path) -> None:
    """A stop text of one token is an end token of student and expert alike; a longer one only cuts what is graded."""
    rows = [{"prompt": f"{i}=", "answer": i, "verifier": "number"} for i in range(30)]
    task = load_task(f"data:path={public.write(tmp_path / 'd.jsonl', rows)},stop=\\n||###")
    p = policy(task, TINY + ",init=0.5").add_stop_tokens(task.stop)  # type: ignore[attr-defined]
    (line_break,) = p.tokenizer("\n")["input_ids"]
    assert set(p.end_ids) == {p.tokenizer.eos_token_id, line_break}
    prompts = held_out(task, p, "train", 20, 0, 200)
    done = sample_policy(p, task, prompts, 4, 0, 200)
    assert any(r.ids[-1] == line_break for r in done.rollouts)
    assert not any(line_break in r.ids[:-1] for r in done.rollouts)
    assert task.verify(prompts[0], f"{prompts[0].data['answer']}### 7 8", False) == 1.0


def test_default_splits_leave_out_a_missing_ood(gsm8k: str) -> None:
    task = load_task(gsm8k)
    assert splits_of("test,ood", task) == ["test"]
    assert splits_of("test,ood", load_task("countdown")) == ["test", "ood"]
    with pytest.raises(UserError, match="one of train, test"):
        splits_of("tset", task)


def test_a_chat_prompt_needs_a_chat_model(gsm8k: str, models: dict[str, Path]) -> None:
    task = load_task(gsm8k)
    plain = load_policy(str(models["llama"]), "student", device="cpu")
    with pytest.raises(UserError, match="has no chat template: use template=plain"):
        plain.encode(task.prompts("test", 1, 0))
    p = policy(task)
    (prompt,) = p.encode(task.prompts("test", 1, 0))
    text = p.tokenizer.decode(list(prompt.ids))
    assert text.startswith("user: Ann has")
    assert text.endswith("\nassistant: ")


# ---------------------------------------------------------------- traces as they come


def test_an_end_that_a_trace_spells_out_is_one_end() -> None:
    tokenizer = load_task("addition").tokenizer()
    end = tokenizer.eos_token_id
    assert without_end(tokenizer, (end,), "Four.<|end|>\n") == ("Four.", end)
    assert without_end(tokenizer, (end,), "Four.<|end|><|end|>") == ("Four.", end)
    assert without_end(tokenizer, (end,), "Four. <|end|> Five.") == ("Four. <|end|> Five.", None)


def test_a_thought_is_opened_once() -> None:
    assert without_opening("user: Q\nassistant: <think>\n", "<think>\nhm</think>A") == "hm</think>A"
    assert without_opening("user: Q\nassistant: <think>", "<think>\nhm</think>A") == "\nhm</think>A"
    assert without_opening("user: Q\nassistant: ", "<think>\nhm</think>A") == "<think>\nhm</think>A"
    assert without_opening("user: Q\nassistant: <think>\n", "hm</think>A") == "hm</think>A"


def test_recorded_traces_after_a_template_that_thinks(tmp_path: Path) -> None:
    """The rollout is what the student would write: no second tag, one end."""
    rows = [{"prompt": f"Q{i}", "completion": f"<think>\nhm {i}</think>A<|end|>"} for i in range(20)]
    task = load_task(
        f"data:path={public.write(tmp_path / 'd.jsonl', rows)},template=chat,prefill=<think>,thinking_open=true"
    )
    student = policy(task)
    expert = RecordedExpert(task, student.tokenizer, parse_spec("recorded", "expert")).for_student(student)
    for r in expert.sample(student.encode(task.prompts("train", 4, 0)), 1, 0, 100):
        assert r.text.startswith("\nhm ")
        assert r.text.endswith("</think>A")
        assert r.ids.count(student.end_ids[0]) == 1
        assert r.ended


# ---------------------------------------------------------------- prompts that are too long


def test_too_long_prompts_are_found_before_the_first_update(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}" + " blah" * (300 if i == 17 else 1), "completion": "A"} for i in range(60)]
    task = f"data:path={public.write(tmp_path / 'd.jsonl', rows)},test_share=0.3"
    student = TINY.replace("1024", "256")
    c = config(
        "sft", tmp_path / "run", task=task, expert="recorded", student=student, samples_per_prompt=1, updates=2,
        prompts_per_update=2, max_new_tokens=20,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"d.jsonl, line 18: has 1,50\d tokens, too long: the context of .* is 256"):
        train(c)
    assert not (tmp_path / "run").exists()
    said: list[str] = []
    train(dataclasses.replace(c, task=f"{task},too_long=drop"), note=said.append)
    assert any("1 prompts are too long for the student's context and left out" in line for line in said)


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_no_prompt_is_longer_than_its_bound(template: str, tmp_path: Path) -> None:
    """What may be too long is chosen by this bound; it must hold for text of any bytes."""
    rows = [{"prompt": "é漢𝒳 a"[: 1 + i % 6] * (i + 1)} for i in range(30)]
    task = load_task(f"data:path={public.write(tmp_path / 'd.jsonl', rows)},template={template},system=Brief")
    student = policy(task)
    prompts = student.encode(task.prompts("train", task.size("train") or 0, 0))
    assert all(len(p.ids) <= n for p, n in zip(prompts, at_most(student.tokenizer, prompts, "x")))
