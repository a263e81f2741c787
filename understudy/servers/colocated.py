"""vLLM in this process (its class LLM), behind the calls of completions.Completions. vLLM is imported here only.

What it gives back passes the same checks as a server's answer (responses.py). New weights are copied into its model in
place, by its own reload_weights(weights_iterator=...): nothing is written, nothing passes between processes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from understudy.errors import UserError
from understudy.servers.config import VllmConfig
from understudy.servers.http import BadAnswer
from understudy.servers.responses import Drawn, Scores, Tokens, read_samples, read_scores

T = TypeVar("T")
NAME = "vllm"
_NEUTRAL: dict[str, Any] = {
    "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    "detokenize": False,
}  # fmt: skip
_PARTS = ("weights", "kv_cache")  # what sleeps, by vLLM's names, in the order in which it wakes


def import_vllm(spec: str, device: str) -> Any:
    """The module vllm, set up to run in this process. UserError: not installed, or it cannot run on `device` (cuda,
    cpu, ...), where the student is."""
    # an engine in a process of its own could not be given the student's tensors
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in (("LOGGING_LEVEL", "ERROR"), ("LOGGING_STREAM", "ext://sys.stderr"), ("NO_USAGE_STATS", "1")):
        os.environ.setdefault(f"VLLM_{name}", value)
    problem, runs_on = "", {"cuda"}
    try:
        import vllm  # optional, and it takes seconds
        from vllm.platforms import current_platform

        runs_on |= {"cpu"} if current_platform.is_cpu() else set()
    except (ImportError, OSError) as error:  # OSError: built for another torch
        problem = str(error).partition("\n")[0]
    if device not in runs_on:
        hint = f"needs a GPU, and the student is on {device}: use local, or a server (http://HOST:PORT/v1)"
        raise UserError("sampler", spec, hint)
    if problem:
        raise UserError("sampler", spec, f"needs vLLM ({problem}): pip install 'understudy[vllm]', or use local")
    return vllm


class Colocated:
    """One model in this process."""

    def __init__(
        self, vllm: Any, folder: str, config: VllmConfig, dtype: str, end_ids: Sequence[int], vocabulary: int
    ) -> None:
        """folder: of the model and its tokenizer, read here only. dtype: of its weights and arithmetic."""
        from vllm.platforms import current_platform  # optional

        self.vllm, self.end_ids, self.vocabulary = vllm, tuple(end_ids), vocabulary
        can_sleep = getattr(current_platform, "is_sleep_mode_available", lambda: False)()
        self.level = config.sleep if can_sleep else 0
        self._asleep: set[str] = set()
        length = {"max_model_len": config.max_model_len} if config.max_model_len else {}
        options: dict[str, Any] = {
            "model": folder, "dtype": dtype, "gpu_memory_utilization": config.gpu_memory_utilization,
            "enforce_eager": config.eager, "enable_sleep_mode": self.level > 0, "generation_config": "vllm",
            "logprobs_mode": "raw_logprobs", "use_tqdm_on_load": False,
        } | length  # fmt: skip
        hint = "did not start (try vllm:max_model_len=N, or another gpu_memory_utilization)"
        self.llm = self._do(hint, lambda: vllm.LLM(**options))
        self.context = int(self.llm.llm_engine.model_config.max_model_len)

    # -- as Completions -------------------------------------------------------------------------------------------

    def score(
        self,
        sequences: Sequence[Tokens],
        top_k: int = 0,
        rows: int = 0,
        done: Callable[[int, Scores], None] = lambda i, s: None,
    ) -> list[Scores]:
        """Scores of every completion, in order. vLLM batches them itself: `rows` is not used."""
        options = {"max_tokens": 1, "temperature": 1.0, "prompt_logprobs": top_k}
        scores = []
        for i, (sent, answer) in enumerate(zip(sequences, self._generate([s.ids for s in sequences], [options]))):
            scores += self._read(lambda: read_scores(answer, [sent], top_k, NAME, self.vocabulary))  # noqa: B023
            done(i, scores[-1])
        return scores

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        samples: int,
        seeds: Sequence[int],
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> list[list[Drawn]]:
        """`samples` completions of each prompt; seeds[i] names those of prompt i. Temperature 0 is greedy."""
        common = {
            "n": samples, "temperature": temperature, "top_p": top_p, "max_tokens": max_new_tokens, "logprobs": 0,
            "stop_token_ids": list(self.end_ids), "ignore_eos": True,  # only the student's end tokens
        }  # fmt: skip
        sent = [list(p) for p in prompts]
        answers = self._generate(sent, [common | {"seed": seed} for seed in seeds])
        expected = (samples, max_new_tokens, self.end_ids, self.vocabulary, NAME)
        return [self._read(lambda: read_samples(a, ids, *expected)) for ids, a in zip(sent, answers)]  # noqa: B023

    def text_to_ids(self, text: str) -> list[int]:
        """The ids that vLLM's own tokenizer gives `text` (no special tokens added)."""
        return list(self.llm.get_tokenizer()(text, add_special_tokens=False)["input_ids"])

    def ids_to_pieces(self, ids: Sequence[int]) -> list[str | None]:
        """The text that its tokenizer has for each of `ids` but the first."""
        return [self.llm.get_tokenizer().decode([i]) for i in ids[1:]]

    # -- weights and memory ---------------------------------------------------------------------------------------

    def load(self, weights: Iterable[tuple[str, Any]]) -> None:
        """Copy these weights, named as in a model's files, into the engine, which is awake afterwards. What it has kept
        of earlier prompts is dropped, for it was computed with other weights."""
        self._wake("weights")
        self._do(
            "did not take the student's weights in place",
            lambda: self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)}),
        )
        self._wake("kv_cache")
        if self.llm.reset_prefix_cache() is False:
            raise UserError("sampler", NAME, "did not drop the keys and values of the old weights")

    def rest(self) -> None:
        """Give memory back until the next `load`, where vLLM can."""
        if self.level and not self._asleep:
            self._do("could not give its memory back", lambda: self.llm.sleep(level=self.level))
            self._asleep = set(_PARTS)

    def close(self) -> None:
        with contextlib.suppress(Exception):  # nothing depends on it any more
            from vllm.distributed import cleanup_dist_env_and_memory  # optional

            self.llm.llm_engine.engine_core.shutdown()
            del self.llm
            cleanup_dist_env_and_memory()

    def _wake(self, part: str) -> None:
        if part in self._asleep:
            self._do("could not take its memory again", lambda: self.llm.wake_up(tags=[part]))
            self._asleep.remove(part)

    # -- requests and answers -------------------------------------------------------------------------------------

    def _generate(self, prompts: Sequence[list[int]], options: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers, as a server would write them. options: for each prompt, or the same for all."""
        each = list(options) if len(options) == len(prompts) else [*options] * len(prompts)
        params = [self.vllm.SamplingParams(**(_NEUTRAL | o)) for o in each]
        sent = [{"prompt_token_ids": ids} for ids in prompts]
        outputs = self._do("failed", lambda: self.llm.generate(sent, params, use_tqdm=False))
        if len(outputs) != len(prompts):
            raise UserError("sampler", NAME, f"gave {len(outputs)} answers to {len(prompts)} prompts")
        return [as_answer(output) for output in outputs]

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except BadAnswer as error:
            raise UserError("sampler", NAME, f"answers what was not requested: {error}") from None

    def _do(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # an engine fails in many ways
            line = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
            raise UserError("sampler", NAME, f"{what}: {line}") from error


def as_answer(output: Any) -> dict[str, Any]:
    """vLLM's RequestOutput in the form of a completions API, for the checks of responses.py."""
    rows = output.prompt_logprobs
    if rows is not None:
        rows = [row and {str(i): {"logprob": x.logprob} for i, x in row.items()} for row in rows]
    choices = [
        {
            "index": c.index, "finish_reason": c.finish_reason, "token_ids": list(c.token_ids),
            "logprobs": {"token_logprobs": _taken(c)}, "prompt_token_ids": list(output.prompt_token_ids),
            "prompt_logprobs": rows,
        }
        for c in output.outputs
    ]  # fmt: skip
    return {"model": NAME, "choices": choices}


def _taken(completion: Any) -> list[Any]:
    """The log-probs of the sampled tokens; None where one is missing."""
    rows = zip(completion.token_ids, completion.logprobs or [])
    return [row[i].logprob if i in row else None for i, row in rows]
