"""Models of other tools: each is refused with what to give instead, for student, expert and model to evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from understudy.config import ExpertSpec
from understudy.errors import UserError
from understudy.experts import load_expert
from understudy.policy import load_policy
from understudy.policy.names import instead
from understudy.tasks import make_task


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.Q4_K_M.gguf", "llama-server"),
        ("sft.yaml", "--config FILE"),
        ("config.json", "folder that holds config.json"),
        ("model.safetensors", "give the folder"),
        ("pytorch_model.bin", "save_pretrained"),
        ("rows.jsonl", "--task data:path=FILE"),
        ("model.tar", "unpack"),
        ("TheBloke/Some-7B-GGUF", "llama-server"),
        ("https://huggingface.co/OWNER/NAME/tree/main", "write OWNER/NAME"),
    ],
)
def test_files_and_pages(name: str, words: str) -> None:
    """Catches a bare refusal, for student and expert alike."""
    task = make_task("countdown")
    for load in (lambda: load_policy(name, "student"), lambda: load_expert(ExpertSpec(name), task, None)):
        with pytest.raises(UserError) as caught:
            load()
        assert words in caught.value.hint
        assert "\n" not in str(caught.value)


def folder(where: Path, **files: object) -> str:
    where.mkdir(parents=True)
    for name, content in files.items():
        (where / name.replace("__", ".")).write_text(json.dumps(content))
    return str(where)


def test_folders(tmp_path: Path) -> None:
    adapter = folder(tmp_path / "a", adapter_config__json={"base_model_name_or_path": "OWNER/BASE"})
    assert "OWNER/BASE" in instead(adapter, "student")
    assert "merge_and_unload" in instead(adapter, "student")
    assert "llama-server" in instead(folder(tmp_path / "g", model__gguf=1), "expert")
    assert "run code" in instead(folder(tmp_path / "p", config__json={}, pytorch_model__bin=1), "student")
    quantized = folder(
        tmp_path / "q", config__json={"quantization_config": {"quant_method": "gptq"}}, model__safetensors=1
    )
    assert "quantized (gptq)" in instead(quantized, "student")
    assert instead(quantized, "expert") == ""
    folder(tmp_path / "hub" / "snapshots" / "abc", config__json={})
    assert instead(str(tmp_path / "hub"), "student").endswith("snapshots/abc?")


def test_what_may_be_a_model_is_left_alone(tmp_path: Path) -> None:
    """Catches a refusal of hub ids with a dot, of specs, of servers and of complete folders."""
    good = folder(tmp_path / "m", config__json={}, model__safetensors=1)
    names = ("Qwen/Qwen2.5-0.5B", "scratch:width=64", "solver:noise=0.5", "http://127.0.0.1:8000/v1", good, "nowhere")
    assert [instead(name, "student") for name in names] == [""] * len(names)
