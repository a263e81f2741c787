"""The student's completions drawn by vLLM in this process, on the student's GPU.

Between two draws vLLM sleeps where it can, so that the update has the GPU's memory. It starts on the student's own
model folder, written once and deleted again; after that the weights go from tensor to tensor.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from understudy.experts.server.expert import TokenExpert
from understudy.policy import Policy, tokenizer_sha
from understudy.servers.colocated import NAME, Colocated, import_vllm
from understudy.servers.config import parse_vllm
from understudy.training.engine_sampler import EngineSampler
from understudy.training.sent_weights import named_weights, write_untied
from understudy.types import Prompt


class VllmSampler(EngineSampler):
    """One student, and vLLM beside it."""

    def __init__(self, spec: str, student: Policy, prompts: list[Prompt]) -> None:
        """spec: `vllm` or `vllm:option=value`. UserError: not installed, no GPU, it does not start."""
        vllm = import_vllm(spec, student.device.type)
        config = parse_vllm(spec, "sampler")
        kept = next(student.model.parameters()).dtype
        dtype = "bfloat16" if student.mixed else str(kept).removeprefix("torch.")
        with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
            write_untied(student, Path(folder))
            self.colocated = Colocated(vllm, folder, config, dtype, student.end_ids, student.vocabulary)
        self.colocated.rest()
        engine = ColocatedExpert(self.colocated, student, config.noise)
        engine.provenance |= {"version": str(vllm.__version__), "dtype": dtype, "sleep": self.colocated.level}
        super().__init__(engine, student, prompts, "vllm in this process")

    def send_weights(self) -> None:
        self.colocated.load(named_weights(self.student).items())

    def not_arrived(self) -> str:
        return "this vLLM does not take weights in place; use --sampler local, or a server (http://HOST:PORT/v1)"

    def rest(self) -> None:
        self.colocated.rest()

    def close(self) -> None:
        self.colocated.close()


class ColocatedExpert(TokenExpert):
    """vLLM's model in this process, in the tokens of `student`."""

    kind, where, allow, rows, field = "engine", NAME, "vllm:noise=X", 0, "sampler"

    def __init__(self, api: Colocated, student: Policy, noise: float) -> None:
        self.api, self.noise, self.context, self.name = api, noise, api.context, student.name
        self.tokenizer, self.vocabulary, self.end_ids = student.tokenizer, student.vocabulary, student.end_ids
        self.provenance = {
            "model": self.name, "tokenizer_sha": tokenizer_sha(self.tokenizer), "vocabulary": self.vocabulary,
            "end_ids": list(self.end_ids),
        }  # fmt: skip
