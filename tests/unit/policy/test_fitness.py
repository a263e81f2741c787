"""Models that cannot be a policy, and tokenizers that do not belong to theirs: one line each, before anything runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.tiny_models import make
from understudy.errors import UserError
from understudy.experts.local import LocalExpert
from understudy.policy import check_same_language, load_policy
from understudy.policy.reader import load_reader
from understudy.policy.sampling import draw
from understudy.tasks import load_task
from understudy.types import Prompt, Rollout


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_task("countdown").tokenizer()


def refused(folder: Path, field: str = "student") -> str:
    with pytest.raises(UserError) as error:
        load_policy(str(folder), field, device="cpu")
    assert error.value.field == field
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["bert", "cpmant"])
def test_what_sees_later_tokens_is_no_policy(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    """Catches models that read the answer while they predict it, and those whose padding changes their scores."""
    make(kind, tokenizer, tmp_path, **({"is_decoder": False} if kind == "bert" else {}))
    line = refused(tmp_path, "expert")
    assert "is not causal as it is configured" in line
    assert ("is_decoder is false" in line) == (kind == "bert")


def test_a_model_that_cannot_compute_is_one_line(tokenizer: Any, tmp_path: Path) -> None:
    make("deepseek_v3", tokenizer, tmp_path, head_dim=16)
    assert "DeepseekV3ForCausalLM cannot compute a pass over token ids alone (" in refused(tmp_path)


def test_random_hashes_are_no_policy(tokenizer: Any, tmp_path: Path) -> None:
    make("reformer", tokenizer, tmp_path)
    assert "gives the same tokens other scores at every pass" in refused(tmp_path)


@pytest.mark.parametrize("kind", ["llama4_text", "modernbert-decoder", "camembert", "xlstm"])
def test_unusual_classes_are_scored_as_they_compute(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    """Catches a decoder that is the whole model or another layer, positions that do not begin at 0, and logits of all
    positions where the last were asked for."""
    make(kind, tokenizer, tmp_path)
    policy = load_policy(str(tmp_path), "student", device="cpu")
    ids = [(4, 5, 6, 7, 8, 9), (9, 8, 7), (4, 4, 5, 6)]
    rows = [Rollout(Prompt("p", "", ids=x[:2]), 0, x[2:], (0.0,) * len(x[2:]), False, "", "student") for x in ids]
    for r, got in zip(rows, policy.score(rows)):
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([r.prompt.ids + r.ids]), use_cache=False).logits[0]
        want = logits[1:-1].log_softmax(-1).gather(-1, torch.tensor(r.ids)[:, None])[:, 0]
        torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("kind", "field"), [("gemma3_text", "sliding_window"), ("llama4_text", "attention_chunk_size")]
)
def test_completions_that_share_a_row_are_longer_than_a_window(
    kind: str, field: str, tokenizer: Any, tmp_path: Path
) -> None:
    """Catches a trial of packs that is shorter than the window, which the mask of a pack replaces."""
    make(kind, tokenizer, tmp_path, **{field: 40})
    policy = load_policy(str(tmp_path), "student", device="cpu")
    prompt = Prompt("p", "", ids=tuple(3 + (7 * i) % 60 for i in range(60)))
    bodies = [tuple(3 + (5 * i + s) % 60 for i in range(30)) for s in range(2)]
    rows = [Rollout(prompt, s, body, (0.0,) * 30, False, "", "student") for s, body in enumerate(bodies)]
    for r, got in zip(rows, policy.score(rows)):
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([r.prompt.ids + r.ids]), use_cache=False).logits[0]
        want = logits[59:-1].log_softmax(-1).gather(-1, torch.tensor(r.ids)[:, None])[:, 0]
        torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    assert not policy.packs


def test_a_window_that_no_pack_reaches_does_not_matter(tokenizer: Any, tmp_path: Path) -> None:
    make("mistral", tokenizer, tmp_path, sliding_window=4096)
    assert load_policy(str(tmp_path), "student", device="cpu").packs


def test_end_ids_without_a_row(tokenizer: Any, tmp_path: Path) -> None:
    """Catches end ids that index outside the logits; those that have a row still end a completion."""
    make("llama", tokenizer, tmp_path)
    settings = tmp_path / "generation_config.json"
    settings.write_text(json.dumps({"eos_token_id": [1, 400, -1]}))
    assert load_policy(str(tmp_path), "student", device="cpu").end_ids == (1,)
    assert load_reader(str(tmp_path), "student").end_ids == (1,)
    settings.write_text(json.dumps({"eos_token_id": [300, 400]}))
    line = "ends completions with token 300, 400, and it has 262 rows: set eos_token_id in its generation_config.json"
    assert line in refused(tmp_path, "expert")


def test_tokens_without_a_row(tokenizer: Any, tmp_path: Path) -> None:
    """Catches a pad token that was added without resizing the model (harmless: padding is never read), and texts with
    tokens that the model does not know."""
    make("llama", tokenizer, tmp_path / "plain")
    shutil.copytree(tmp_path / "plain", tmp_path / "more")
    wider = type(tokenizer).from_pretrained(tmp_path / "more")
    wider.add_special_tokens({"pad_token": "[PAD]"})
    wider.add_tokens(["<tool>"])
    wider.save_pretrained(tmp_path / "more")
    plain, more = (load_policy(str(tmp_path / name), "student", device="cpu") for name in ("plain", "more"))
    prompts = more.encode([Prompt("a", "1 2>3\n"), Prompt("b", "7 11 2>4\n")])
    drawn = [draw(p.start, p.decode, p.end_ids, prompts, 2, 1, 9, "student") for p in (plain, more)]
    assert [r.ids for r in drawn[0]] == [r.ids for r in drawn[1]]
    assert all(torch.equal(a, b) for a, b in zip(plain.score(drawn[0]), more.score(drawn[0])))
    line = r"prompt: c: has the token '<tool>' \(id 263\), and .*more has 262 rows"
    with pytest.raises(UserError, match=line):
        more.encode([Prompt("c", "use <tool>")])
    with pytest.raises(UserError, match=r"has the token '<tool>'"):
        more.continuations(prompts[:1], ["<tool>"])
    assert more.add_stop_tokens(["<tool>"]).end_ids == plain.end_ids


def test_an_expert_with_wider_padding_stays_within_the_student(tokenizer: Any, tmp_path: Path) -> None:
    """Catches samples and scores of rows that the student does not have, by every path that samples an expert."""
    make("llama", tokenizer, tmp_path / "student")
    make("llama", tokenizer, tmp_path / "expert", vocab_size=400)
    student = load_policy(str(tmp_path / "student"), "student", device="cpu")
    expert = LocalExpert(load_policy(str(tmp_path / "expert"), "expert", device="cpu")).fit(student.vocabulary)
    check_same_language(student, expert, "expert")
    prompts = student.encode([Prompt(f"p{i}", "1 2>3\n") for i in range(8)])
    own = draw(expert.policy.start, student.decode, (1,), prompts, 4, 1, 12, "expert")
    for r in (*own, *expert.sample(prompts, 2, 1, 12), *expert.greedy(prompts, 12)):
        assert max(r.ids) < student.vocabulary
    assert all(bool(x.isfinite().all()) for x in student.score(own))
    with torch.no_grad():
        logits = expert.policy.model(input_ids=torch.tensor([own[0].prompt.ids])).logits[0, -1, : student.vocabulary]
    assert own[0].behavior_logp[0] == pytest.approx(float(logits.log_softmax(-1)[own[0].ids[0]]), abs=1e-4)


def test_an_adapter_beside_merged_weights_is_not_applied(
    tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an adapter that transformers finds in the folder and applies to weights that hold it already."""
    pytest.importorskip("peft")
    make("llama", tokenizer, tmp_path / "base")
    policy = load_policy(str(tmp_path / "base"), "student", device="cpu")
    policy.adapt(2, 4.0, 0.0, "all-linear", 0)
    with torch.no_grad():
        for p in policy.trained().values():
            p.add_(0.3)
    policy.save(tmp_path / "final")
    for file in (tmp_path / "final" / "adapter").iterdir():
        shutil.copy(file, tmp_path / "final" / file.name)
    capsys.readouterr()
    merged = load_policy(str(tmp_path / "final"), "student", device="cpu")
    assert "holds an adapter beside the model's own weights" in capsys.readouterr().err
    assert not any("lora" in name for name in merged.model.state_dict())
    prompts = policy.encode([Prompt("a", "1 2>3\n")])
    rows = [Rollout(prompts[0], 0, (5, 6, 7), (0.0,) * 3, False, "", "student")]
    torch.testing.assert_close(merged.score(rows)[0], policy.score(rows)[0], atol=1e-4, rtol=0)
    (tmp_path / "final" / "model.safetensors").unlink()
    assert "is an adapter without its model" in refused(tmp_path / "final")
