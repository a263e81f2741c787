"""Fields that are left open: by what a student's name says, by method, by cost; a resume changes none of them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from understudy.config import TrainConfig, continued, defaults, resolve, to_dict
from understudy.methods.table import TABLE


def model(folder: Path, weights: int, **facts: Any) -> str:
    """A folder that looks like a model of so many float32 weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 50_000} | facts))
    save_file({"w": np.zeros(1, dtype=np.float32)}, folder / "model.safetensors")
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(4 * weights)  # sparse: it takes no room
    return str(folder)


def run(folder: Path, student: str, weights: int) -> str:
    model(folder / "final", weights)
    (folder / "config.json").write_text(json.dumps({"method": "sft", "student": student}))
    return str(folder)


def config(student: str, method: str = "sft", **changes: Any) -> TrainConfig:
    fields = {"method": method, "student": student, "expert": "solver", "out": "no-such-run", "device": "cpu"}
    return TrainConfig(**(fields | changes))


def test_what_a_name_says(tmp_path: Path) -> None:
    big = model(tmp_path / "big", 100_000_000)
    small = model(tmp_path / "small", 1_000_000)
    half = model(tmp_path / "half", 100_000_000, dtype="bfloat16")
    of_big, of_scratch = run(tmp_path / "a", big, 100_000_000), run(tmp_path / "b", "scratch:width=64", 100_000_000)
    grandchild = run(tmp_path / "c", of_scratch, 100_000_000)
    says = {name: defaults.describe(name) for name in (big, small, half, of_big, of_scratch, grandchild)}
    assert [s.pretrained for s in says.values()] == [True, False, True, True, False, False]
    assert says[big].weights == 100e6
    assert says[half].weights == 200e6
    assert defaults.describe(f"{of_scratch}/final") == says[of_scratch]
    assert defaults.describe("Qwen/Qwen2.5-0.5B").pretrained
    assert math.isnan(defaults.describe("Qwen/Qwen2.5-0.5B").weights)
    assert not defaults.describe("d/base", out="d/sft-0").pretrained, "a run of the same comparison, not made yet"
    for name in ("scratch", "scratch:width=64,layers=2", str(tmp_path / "not-yet"), ""):
        assert not defaults.describe(name).pretrained, name


@pytest.mark.parametrize("method", TABLE)
def test_every_method_has_usual_values_for_every_student(method: str, tmp_path: Path) -> None:
    """Adapters have larger rates than all weights, imitation larger than rewards, new models the largest."""
    big = model(tmp_path / "big", 100_000_000)
    new, full, lora = (
        resolve(config(student, method, lora_rank=rank)).lr for student, rank in (("scratch", 0), (big, 0), (big, 8))
    )
    assert new == 1e-3
    assert full == pytest.approx(lora / 10)
    assert 1e-6 <= full <= 2e-5


def test_new_models_keep_what_they_had() -> None:
    c = resolve(config("scratch:width=64"))
    fields = (c.lr, c.schedule, c.warmup, c.eval_prompts, c.final_prompts, c.final_samples, c.eval_divergences)
    assert fields == (1e-3, "constant", 0, 128, 256, 4, True)
    assert c.eval_start
    assert not defaults.reasons(c, defaults.FIELDS)


def test_what_is_given_is_used(tmp_path: Path) -> None:
    big = model(tmp_path / "big", 100_000_000)
    given: dict[str, Any] = {
        "lr": 3e-4, "schedule": "cosine", "warmup": 0, "eval_start": True, "eval_prompts": 99, "final_prompts": 300,
        "final_samples": 3, "eval_divergences": True,
    }  # fmt: skip
    assert set(given) == set(defaults.FIELDS)
    c = resolve(config(big, **given))
    assert {name: getattr(c, name) for name in given} == given


def test_evaluations_of_a_pretrained_model_on_a_cpu_are_bounded(tmp_path: Path) -> None:
    """More weights or longer completions: fewer prompts. A GPU, or a model of unknown size: as many as ever."""
    sizes = [model(tmp_path / str(n), n * 1_000_000) for n in (20, 135, 500)]
    c = [resolve(config(s, max_new_tokens=64)) for s in sizes]
    assert c[0].eval_prompts > c[1].eval_prompts >= c[2].eval_prompts == defaults.LEAST_PROMPTS
    assert [x.eval_start for x in c] == [True, True, False]
    assert not any(x.eval_divergences for x in c)
    long = resolve(config(sizes[0], max_new_tokens=256))
    assert long.eval_prompts < c[0].eval_prompts
    for free in (config(sizes[2], device="cuda"), config("Qwen/Qwen2.5-0.5B")):
        assert (resolve(free).eval_prompts, resolve(free).final_prompts) == (128, 256)
    short = resolve(config(sizes[1], updates=10, prompts_per_update=8))
    assert (short.final_prompts, short.final_samples) == (defaults.LEAST_FINAL, 1)


@pytest.mark.parametrize(("lr", "word"), [(1e-3, "destroy"), (1e-7, "little"), (1e-4, ""), (2e-5, "")])
def test_a_rate_far_outside_gets_a_warning(lr: float, word: str, tmp_path: Path) -> None:
    c = resolve(config(model(tmp_path / "big", 100_000_000), lr=lr))
    lines = [line for line in defaults.reasons(c, [f for f in defaults.FIELDS if f != "lr"]) if line.startswith("lr ")]
    assert bool(lines) == bool(word)
    assert all(word in line for line in lines)


def test_the_start_says_what_was_chosen_and_why(tmp_path: Path) -> None:
    c = resolve(config(model(tmp_path / "big", 100_000_000)))
    (line,) = [line for line in defaults.reasons(c, defaults.FIELDS) if line.startswith("learning rate")]
    assert line.startswith("learning rate 2e-05, constant: usual for imitation")
    assert "TRL" in line


def test_a_resume_keeps_what_was_recorded(tmp_path: Path) -> None:
    """Also where the student would be judged otherwise now, and in runs of versions with other defaults."""
    big = model(tmp_path / "big", 100_000_000)
    out = tmp_path / "run"
    out.mkdir()
    asked = config(big, out=str(out))
    old = to_dict(resolve(dataclasses.replace(asked, lr=1e-3, eval_prompts=128, eval_divergences=True)))
    (out / "config.json").write_text(json.dumps(old | {"max_new_tokens": 77}))
    again = to_dict(resolve(continued(asked)))
    assert again == old | {"max_new_tokens": 77}
    assert continued(dataclasses.replace(asked, lr=5e-5, eval_divergences=False)).lr == 5e-5
    assert continued(dataclasses.replace(asked, eval_divergences=False)).eval_divergences is False


def test_a_short_completion_costs_its_prompt() -> None:
    """Catches an evaluation of 128 prompts before the first update, because completions of 6 tokens looked cheap."""
    student = defaults.Student(pretrained=True, weights=135e6, vocabulary=49_152)
    config = resolve(TrainConfig(method="grpo", student="scratch:width=16,layers=1", device="cpu"))
    sizes = [defaults.evaluation(config, student, room)["eval_prompts"] for room in (1, 6, 512)]
    assert sizes[0] <= 16
    assert sizes == sorted(sizes, reverse=True)
