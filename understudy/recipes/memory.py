"""The predicted peak memory of training, by parts: what the code keeps at the same time, counted from it.

V vocabulary, D width, F width of the MLP, A = heads x head dimension, K = key-value heads x head dimension. The
sizes of what code keeps were counted in methods/kernel.py, policy/fast.py and transformers' Llama.
Training, backward, optimizer, sampling and scoring take turns: the peak is that of the worst. Nothing grows with the
number of micro-batches of an update.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from understudy.config import Resolved
from understudy.methods.kernel import chunk_of
from understudy.policy.fast import GROWTH, PREFILLED, STACKED
from understudy.policy.model import SCORE_ROWS, SCORE_TOKENS, SCORE_TOKENS_CPU
from understudy.policy.sampling import rows_together
from understudy.recipes.cost import Machine
from understudy.recipes.models import Shape
from understudy.recipes.recipe import Lengths
from understudy.training.labels import micro_tokens_on

TURNS = ("training", "backward", "optimizer", "sampling", "scoring")
WHOLE = {"kl_student_expert": 17, "kl_expert_student": 17, "jsd": 21}
"""Bytes per logit of a chunk where the target is a whole distribution (kernel._whole): two blocks of float32 of the
student and two of the expert (kernel.Table), a mask, and the JSD's own. Of a top k 16, of a token target 8 (12 in
bfloat16, where log-probs cannot take the logits' block)."""


def memory(
    config: Resolved, student: Shape, expert: Shape | None, lengths: Lengths, machine: Machine
) -> Mapping[str, float]:
    """Bytes per device by part, for the longest completion. Weights, gradients and optimizer are spread over the GPUs.

    mixed: float32 weights, gradients and two moments, 16 bytes per weight; whole bfloat16 weights while sampling.
    bfloat16: 8 bytes per weight. float32: 16. LoRA: gradients and moments of the adapter alone. Experts are held whole.
    """
    c, n = config, student.parameters
    cpu = machine.device.kind == "cpu"
    wide, held = (2, 2) if c.dtype == "bfloat16" else (4, 2 if c.dtype == "mixed" else 4)
    trained = adapter(student, c.lora_rank) if c.lora_rank else n
    sequences = max(1, c.prompts_per_update * c.samples_per_prompt // machine.gpus)
    new = int(c.max_new_tokens or lengths.completion)
    longest = int(lengths.prompt) + new
    rows = min(c.micro_batch or sequences, sequences)
    rows = min(rows, max(1, (c.micro_tokens or micro_tokens_on(machine.device.kind)) // longest))
    tokens, completion = rows * longest, rows * new
    shared = student.vocabulary * student.width  # weights of the head
    head = 0 if c.lora_rank else shared * wide
    cast = 2 * shared * held if held != wide else 0  # the head in bfloat16, and a product that is added to its gradient
    logits = chunk_tokens(c, student, completion, machine) * student.vocabulary * per_logit(c, held)
    layer = of_layer(student, c.dtype)
    kept = student.layers * student.width * wide + layer if c.activation_checkpointing else student.layers * layer
    one = tokens * (3 * student.mlp + 2 * student.width) * held  # gradients of one layer's activations
    waiting = head if student.tied else 0  # a tied head's gradient waits for the embedding's
    parts = {
        "weights": n * wide / machine.gpus,
        "gradients and optimizer": 3 * trained * wide / machine.gpus,
        "expert": expert.parameters * held if expert is not None else 0,
        "training: activations": tokens * (kept + 3 * student.width * wide),
        "training: hidden states": completion * (2 * student.width * wide),
        "training: head": max(head + cast + logits, 2 * head, waiting + one),
        "backward: embedding": 2 * head,  # tied: those of both uses, which are summed in place
        "backward: activations": tokens * layer + one,
        "optimizer: one step": 2 * max(shared, _largest(student)) * wide if cpu else trained * wide / machine.gpus,
    }
    if (c.behavior == "base" or c.extrapolates) and not c.lora_rank:  # with an adapter the base is the same weights
        parts["base"] = n * wide
    if c.dtype == "mixed":  # each product converts its weights, and keeps them for its gradient
        parts["training: converted weights"] = 2 * (
            _body(student) / (student.layers if c.activation_checkpointing else 1)
        )
    if c.target == "distribution":
        if expert is None:  # a program's table of one micro-batch
            parts["training: expert's table"] = 2 * completion * student.vocabulary * 4
        else:
            parts["training: expert's hidden states"] = completion * expert.width * held
            parts["scoring: a layer"] = tokens * of_forward(expert) * held
    elif expert is not None and (c.reads_scores or c.target == "expert_token"):
        scored = min(sequences * longest, SCORE_ROWS * longest, max(longest, SCORE_TOKENS_CPU if cpu else SCORE_TOKENS))
        n_scored = scored * new // longest
        parts["scoring: a layer"] = scored * of_forward(expert) * held + n_scored * expert.width * held
        parts["scoring: logits"] = (
            chunk_tokens(c, expert, n_scored, machine, 0) * expert.vocabulary * (8 if held == 4 else 10)
        )
    return parts | _sampling(c, student, expert, int(lengths.prompt), new, machine, held)


def _sampling(
    c: Resolved, student: Shape, expert: Shape | None, prompt: int, new: int, machine: Machine, held: int
) -> dict[str, float]:
    """Of decoding as many rows as are decoded together."""
    acting = [s for s in (student, expert) if s is not None]
    if c.behavior in ("student", "base") or expert is None:
        acting = [student]
    rows = rows_together(prompt + new, student.vocabulary, machine.device.kind)
    local = -(-c.prompts_per_update * c.samples_per_prompt // machine.gpus)
    # evaluations decode other prompts, one row each or more
    looks = max(c.eval_prompts * (c.eval_samples if c.eval_every else 0), c.final_prompts * c.final_samples)
    looks = -(-looks // machine.gpus)
    if c.replay != "fixed":
        rows = min(rows, max(local, looks))
    widest = max(s.cache for s in acting)
    grouped = c.samples_per_prompt >= 2 and prompt >= 16 and c.replay != "fixed" and looks <= local
    prompts = -(-rows // c.samples_per_prompt) if grouped else rows
    columns = growth(GROWTH, new) if grouped else growth(prompt + max(GROWTH, prompt // 2), prompt + new)
    prefilled = prompts * prompt
    at_once = min(prefilled, max(PREFILLED, prompt))
    again = 2 if prefilled > PREFILLED else 1  # parts, and these joined
    caches = rows * columns + (prefilled if grouped else 0)
    filling = prefilled * again * widest * held + at_once * max(of_forward(s) for s in acting) * held
    copies = student.parameters * held if machine.gpus > 1 or c.dtype == "mixed" else 0
    body = _body(student)
    if c.dtype == "float32" and body <= STACKED:  # stacked copies of q, k, v and of gate, up
        each = student.width * (student.head * (student.heads + 2 * student.kv_heads) + 2 * student.mlp)
        copies = student.layers * each * held
    return {
        "sampling: copies of weights": float(copies),
        "sampling: caches": float(max(caches * widest * held, filling)),
        "sampling: logits": float(rows * student.vocabulary * (8 if held == 4 else 10)),
    }


def growth(start: int, last: int) -> int:
    """Columns of a cache that begins with `start` and grows by half until it holds `last`, layer by layer."""
    while start < last:
        start += max(GROWTH, start // 2)
    return start


def chunk_tokens(c: Resolved, shape: Shape, tokens: int, machine: Machine, chunk: int | None = None) -> int:
    """Tokens of the longest slice that kernel.chunks makes."""
    size = chunk_of(shape.vocabulary, torch.device(machine.device.kind), c.logit_chunk if chunk is None else chunk)
    return min(tokens, size)


def per_logit(c: Resolved, held: int) -> int:
    """Bytes per logit of a chunk of the loss."""
    if c.target != "distribution":
        return 8 if held == 4 else 12
    return 16 if c.top_k else WHOLE[c.divergence]


def of_layer(s: Shape, dtype: str) -> int:
    """Bytes per token that a layer keeps for its backward pass: norms 6 D, q, k, v and what attention returns, 4 F."""
    wide, narrow = s.heads * s.head, s.kv_heads * s.head
    inner = 3 * wide + 2 * narrow + 4 * s.mlp
    if dtype == "float32":
        return 4 * (6 * s.width + inner)
    # norms are computed in float32; mixed: each of five products converts its input
    return 2 * inner + (4 * 6 * s.width + 2 * 5 * s.width if dtype == "mixed" else 2 * 10 * s.width)


def of_forward(s: Shape) -> int:
    """Numbers per token that exist at the same time in a forward pass without gradients."""
    return 4 * s.width + 3 * s.mlp


def _body(s: Shape) -> int:
    return s.matrices - s.width * s.vocabulary


def _largest(s: Shape) -> int:
    return s.width * max(s.mlp, s.heads * s.head)


def adapter(shape: Shape, rank: int) -> int:
    """Weights of a low-rank adapter beside every matrix of every layer."""
    wide, narrow = shape.heads * shape.head, shape.kv_heads * shape.head
    sides = 2 * (shape.width + wide) + 2 * (shape.width + narrow) + 3 * (shape.width + shape.mlp)
    return shape.layers * rank * sides


def peak(parts: Mapping[str, float]) -> float:
    """Bytes at the worst moment: the turns do not overlap."""
    steady = sum(v for k, v in parts.items() if not k.startswith(TURNS))
    return steady + max(sum(v for k, v in parts.items() if k.startswith(turn)) for turn in TURNS)
