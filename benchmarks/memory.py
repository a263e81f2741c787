"""Predicted against measured peak memory of training on a CPU, one fresh process per case.

    PYTHONPATH=. python -m benchmarks.memory            (Linux; about 2 minutes on one thread)
    PYTHONPATH=. python -m benchmarks.memory opd_full-16 body

Each case makes a student and an expert from a shape, an update of two prompts, and then a whole one: sampling, scoring,
learning, optimizer.
Measured: the high-water mark of the resident memory (VmHWM) minus the resident memory before the models are made
(and after a tiny training, which loads the libraries' code).
MALLOC_MMAP_THRESHOLD_ is set, so every tensor of 64 KiB and more has its own pages and returns them when it is freed.
The prediction is recipes.memory, which --dry-run uses. The last column counts the student's weights, gradients and
two moments and the expert's weights as `the two models`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from understudy.config import Resolved, TrainConfig, resolve
from understudy.experts.local import LocalExpert
from understudy.policy import Policy
from understudy.policy.sampling import draw
from understudy.recipes.cost import Device, Machine
from understudy.recipes.memory import memory, peak
from understudy.recipes.models import Shape
from understudy.recipes.recipe import Lengths
from understudy.training.labels import label
from understudy.training.update import update
from understudy.types import Ledger, Prompt

VOCABULARY, PROMPT, NEW = 151_936, 32, 64
CPU = Machine(Device("CPU", 1e11, 1e10, 1e11, "cpu"))


class Case(NamedTuple):
    student: Shape
    expert: Shape
    fields: dict[str, Any]


def shape(layers: int, width: int, mlp: int, vocabulary: int = VOCABULARY, tied: bool = True) -> Shape:
    return Shape(layers, width, width // 32, width // 64, 32, mlp, vocabulary, tied)


WIDE, EXPERT = shape(2, 64, 256), shape(2, 128, 512)
LARGE, LARGE_EXPERT = shape(4, 256, 1024), shape(4, 512, 2048)
BODY = shape(6, 384, 1536, 512)
FULL = {"method": "opd_full"}
CASES = {
    "opd_full-16": Case(WIDE, EXPERT, FULL | {"prompts_per_update": 16, "micro_batch": 4}),
    "opd_full-64": Case(WIDE, EXPERT, FULL | {"prompts_per_update": 64, "micro_batch": 4}),
    "opd_full-16-default": Case(WIDE, EXPERT, FULL | {"prompts_per_update": 16}),
    "opd_full-64-default": Case(WIDE, EXPERT, FULL | {"prompts_per_update": 64}),
    "top16": Case(WIDE, EXPERT, FULL | {"prompts_per_update": 16, "micro_batch": 4, "top_k": 16}),
    "gkd": Case(WIDE, EXPERT, {"method": "gkd", "prompts_per_update": 16, "micro_batch": 4}),
    "opd": Case(WIDE, EXPERT, {"method": "opd", "prompts_per_update": 16, "micro_batch": 4}),
    "untied": Case(shape(2, 64, 256, tied=False), EXPERT, FULL | {"prompts_per_update": 16, "micro_batch": 4}),
    "large-16": Case(LARGE, LARGE_EXPERT, FULL | {"prompts_per_update": 16, "micro_batch": 4}),
    "large-64": Case(LARGE, LARGE_EXPERT, FULL | {"prompts_per_update": 64, "micro_batch": 4}),
    "body": Case(BODY, BODY, FULL | {"prompts_per_update": 16}),
    "body-checkpointed": Case(BODY, BODY, FULL | {"prompts_per_update": 16, "activation_checkpointing": True}),
}  # fmt: skip


class Ids:
    """A tokenizer for ids without texts."""

    eos_token_id, pad_token_id = 2, 0

    def __len__(self) -> int:
        return 3

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": []}

    def get_vocab(self) -> dict[str, int]:
        return {}

    def batch_decode(self, ids: list[list[int]], **_: Any) -> list[str]:
        return [""] * len(ids)


def policy(s: Shape, seed: int) -> Policy:
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=s.width, intermediate_size=s.mlp, num_hidden_layers=s.layers, num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads, head_dim=s.head, vocab_size=s.vocabulary, tie_word_embeddings=s.tied,
        max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    assert sum(p.numel() for p in model.parameters()) == s.parameters
    return Policy(model, Ids(), "random")


def resolved(case: Case) -> Resolved:
    return resolve(
        TrainConfig(
            student="s",
            expert="a/b",
            task="addition",
            max_new_tokens=NEW,
            eval_every=0,
            final_prompts=16,
            final_samples=1,
            **case.fields,
        )
    )


def resident(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith(name)).split()[1])


def measured(case: Case) -> dict[str, float]:
    """Bytes at the highest moment of each turn and of all, above what was there before the models."""
    torch.set_num_threads(1)
    small = shape(1, 64, 64, 512)
    _train(Case(small, small, case.fields), lambda turn: None)  # code and buffers of the libraries
    gc.collect()
    before, out = resident("VmRSS"), {}

    def high(turn: str) -> None:
        out[turn] = resident("VmHWM") - before
        Path("/proc/self/clear_refs").write_text("5")

    _train(case, high)
    return out | {"peak": max(out.values())}


def _train(case: Case, high: Callable[[str], None]) -> None:
    """An update of two prompts, after which gradients and moments exist, and a whole one."""
    c = resolved(case)
    student, expert = policy(case.student, 0), LocalExpert(policy(case.expert, 1))
    student.model.requires_grad_(True)
    expert.policy.model.requires_grad_(False)
    if c.activation_checkpointing:
        student.save_memory()
    optimizer = torch.optim.AdamW(student.trained().values(), lr=1e-4)
    for step, count in enumerate((2, c.prompts_per_update)):
        high("before")
        ids = [tuple(3 + (7 * i + j + step) % 400 for j in range(PROMPT)) for i in range(count)]
        prompts = [Prompt(str(i), "", ids=x) for i, x in enumerate(ids)]
        rollouts = draw(
            student.start, student.decode, (), prompts, 1, step, NEW, "student", vocabulary=student.vocabulary
        )
        high("sampling")
        labelled = label(rollouts, c, student, expert, Ledger())
        high("labels")
        update(student, optimizer, labelled, c)
        high("update")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("cases", nargs="*", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--one", default="", help="measure in this process and print JSON")
    parser.add_argument("--parts", action="store_true", help="the prediction part by part, and each turn measured")
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(measured(CASES[args.one])))
        return
    environment = os.environ | {
        "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    print(
        "| case | predicted, MB | measured, MB | predicted / measured | measured / the two models |\n"
        + 5 * "|---"
        + "|"
    )
    for name in args.cases or CASES:
        case = CASES[name]
        command = [sys.executable, "-m", "benchmarks.memory", "--one", name]
        text = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        got = json.loads(text.splitlines()[-1])
        parts = memory(resolved(case), case.student, case.expert, Lengths(PROMPT, NEW), CPU)
        want, models = peak(parts), 16 * case.student.parameters + 4 * case.expert.parameters
        print(f"| {name} | {want / 1e6:,.0f} | {got['peak'] / 1e6:,.0f} | {want / got['peak']:.2f} "
              f"| {got['peak'] / models:.2f} |", flush=True)  # fmt: skip
        if args.parts:
            print({k: round(v / 1e6, 1) for k, v in parts.items()}, {k: round(v / 1e6, 1) for k, v in got.items()})


if __name__ == "__main__":
    main()
