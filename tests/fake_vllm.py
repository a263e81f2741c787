"""Provides a stand-in of vLLM's Python API (LLM, SamplingParams, platforms, distributed), as vLLM 0.32 has it.

It computes with a Policy, by way of stub_server.Stub. `install` puts it in the place of the module vllm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from stub_server import Stub

from understudy.policy import load_policy

DEFAULTS = {
    "n": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "seed": None, "max_tokens": 16,
    "logprobs": None, "prompt_logprobs": None, "stop_token_ids": None, "ignore_eos": False, "repetition_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "detokenize": True,
}  # fmt: skip


def sampling_params(**options: Any) -> dict[str, Any]:
    assert set(options) <= set(DEFAULTS), "an option that vLLM does not have"
    return DEFAULTS | options


class FakeLLM:
    """One engine. `events` records what was called; the class's attributes make it fail."""

    stale = False  # reload_weights does nothing
    old = False  # reload_weights knows no weights_iterator
    start_error = ""
    made: list[FakeLLM] = []  # noqa: RUF012

    def __init__(self, model: str, **options: Any) -> None:
        if self.start_error:
            raise ValueError(f"Engine core initialization failed\n{self.start_error}")
        self.options, self.events, self.asleep = options, ["start"], set[str]()
        assert Path(model, "config.json").is_file()
        policy = load_policy(model, "student", device="cpu")
        assert not policy.model.config.tie_word_embeddings, "a tied head could not be reloaded"
        self.stub = Stub(policy)
        length = options.get("max_model_len") or policy.context
        engine_core = SimpleNamespace(shutdown=lambda: self.events.append("shutdown"))
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=length), engine_core=engine_core
        )  # fmt: skip
        self.spoil: Callable[[Any], None] = lambda output: None
        self.made.append(self)

    def get_tokenizer(self) -> Any:
        return self.stub.tokenizer

    def generate(self, prompts: Sequence[Any], params: Sequence[Any], use_tqdm: bool) -> list[Any]:
        assert not self.asleep, "used while asleep"
        assert len(prompts) == len(params)
        self.events.append("generate")
        outputs = [self._output(p["prompt_token_ids"], o) for p, o in zip(prompts, params)]
        for output in outputs:
            self.spoil(output)
        return outputs

    def _output(self, ids: list[int], options: dict[str, Any]) -> Any:
        k = options["prompt_logprobs"]
        given = None if k is None else [row and _named(row) for row in self.stub._given(ids, k)]
        completions = []
        for s in range(options["n"]):
            c = self.stub._choice(s, ids, None, options, s)
            logps = c["logprobs"] and c["logprobs"]["token_logprobs"]
            rows = logps and [{i: SimpleNamespace(logprob=x)} for i, x in zip(c["token_ids"], logps)]
            completions.append(
                SimpleNamespace(index=s, token_ids=c["token_ids"], logprobs=rows, finish_reason=c["finish_reason"])
            )
        return SimpleNamespace(prompt_token_ids=ids, prompt_logprobs=given, outputs=completions)

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> list[None]:
        assert method == "reload_weights"
        assert "weights" not in self.asleep, "weights written to memory that is not there"
        if self.old:
            raise TypeError("reload_weights() got an unexpected keyword argument 'weights_iterator'")
        self.events.append("reload")
        weights: Iterable[tuple[str, torch.Tensor]] = kwargs["weights_iterator"]
        if not self.stale:
            self.stub.policy.model.load_state_dict(dict(weights))  # strict: every weight, the head too
        return [None]

    def reset_prefix_cache(self) -> bool:
        self.events.append("reset")
        return not self.asleep

    def sleep(self, level: int) -> None:
        assert self.options["enable_sleep_mode"]
        self.events.append(f"sleep {level}")
        self.asleep = {"weights", "kv_cache"}
        if level == 2:  # the weights are gone
            with torch.no_grad():
                for p in self.stub.policy.model.parameters():
                    p.fill_(torch.nan)

    def wake_up(self, tags: list[str]) -> None:
        self.events.append(f"wake {tags[0]}")
        self.asleep -= set(tags)


def _named(row: dict[str, Any]) -> dict[int, Any]:
    return {int(i): SimpleNamespace(logprob=x["logprob"]) for i, x in row.items()}


def install(monkeypatch: pytest.MonkeyPatch, can_sleep: bool = True, on_cpu: bool = True) -> type[FakeLLM]:
    """A fresh engine class, in the place of the module vllm for one test."""
    fake = type("LLM", (FakeLLM,), {"made": []})
    platform = SimpleNamespace(is_cpu=lambda: on_cpu, is_sleep_mode_available=lambda: can_sleep)
    parts: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": fake, "SamplingParams": sampling_params, "__version__": "0.32.0"},
        "vllm.platforms": {"current_platform": platform},
        "vllm.distributed": {"cleanup_dist_env_and_memory": lambda: None},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")  # put back after the test
    return fake
