"""Connect to a server, and check it before its scores are trained on: same tokenizer, and little noise in its scores.

Scores under a foreign tokenizer are nonsense without any error, and a server's noise can exceed the signal. Each check
passes, or stops with one line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from understudy.config import ExpertSpec
from understudy.errors import UserError
from understudy.experts.foreign.expert import ForeignExpert
from understudy.experts.server.chat import ChatExpert
from understudy.experts.server.expert import ServerExpert, TokenExpert, as_rollout
from understudy.policy import check_same_language, load_policy, tokenizer_sha
from understudy.policy.reader import load_reader
from understudy.policy.tokens import one_token
from understudy.protocols import Expert, Task
from understudy.randomness import generator
from understudy.servers.config import parse_server
from understudy.servers.http import Rejected
from understudy.types import Prompt, Rollout

PROBE = "3+5=8 ok\nThe 12 quick foxes.  é✓ def f(x):\n\treturn x**2 \\boxed{42}"
OTHER = "use the student's, or name it: server:url=...,tokenizer=FOLDER"
PROMPTS = 4
TOKENS = 24


def connect(spec: ExpertSpec, task: Task, student: Any) -> Expert:
    """The server that `spec` names. UserError: not reachable, another model or tokenizer, noisier than allowed."""
    server = parse_server(spec.expert, "expert")
    if server.api == "chat":
        return ChatExpert(server, student, spec.temperature, spec.top_p, tag=task.thinking)
    reads = student
    if server.tokenizer:
        reads = load_reader(server.tokenizer, "expert.tokenizer", None, spec.trust_remote_code)
        stops = {i for stop in task.stop if (i := one_token(reads.tokenizer, stop)) is not None}
        reads = replace(reads, end_ids=tuple(sorted({*reads.end_ids, *stops})))
    expert = ServerExpert(server, reads, spec.temperature, spec.top_p)
    local = None
    if server.local:
        local = load_policy(
            server.local, "expert.local", None, 0, spec.device, spec.dtype, spec.trust_remote_code
        ).add_stop_tokens(task.stop)
        check_same_language(reads, local, server.local)
    prompts = reads.encode(task.prompts("train", PROMPTS, spec.seed))
    expert.provenance["preflight"] = preflight(expert, prompts, local)
    if tokenizer_sha(reads.tokenizer) == tokenizer_sha(student.tokenizer):
        return expert
    return ForeignExpert(expert, reads, student, spec.token_match).preview(task, spec.seed)


def preflight(expert: TokenExpert, prompts: Sequence[Prompt], local: Any = None) -> dict[str, Any]:
    """What was measured, for the run's provenance. prompts: of the task, encoded by the student.

    local: a policy with the same weights; its scores must agree. UserError where anything does not.
    """
    compared = same_tokens(expert)
    room = TOKENS if not expert.context else min(TOKENS, expert.context - max(len(p.ids) for p in prompts) - 1)
    if room < 1:
        _refuse(
            expert, f"its context of {expert.context} tokens has no room for the task's prompts: serve a longer one"
        )
    drawn = expert.api.sample([p.ids for p in prompts[:PROMPTS]], 1, list(range(PROMPTS))[: len(prompts)], room)
    rollouts = [as_rollout(p, 0, d, "", True) for p, (d,) in zip(prompts[:PROMPTS], drawn)]
    return {"tokens_compared": compared, "noise": noise(expert, rollouts, local)}


def same_tokens(expert: TokenExpert) -> int:
    """How many ids are the same on both sides. UserError at the first that is not."""
    tokenizer = expert.tokenizer
    known = len(tokenizer)
    ends = [i for i in expert.end_ids if i < known]
    which = generator("server-probe", known).choice(known, min(64, known), replace=False).tolist()
    ids = [ends[0], *ends, known - 1, *which]
    if expert.context and len(ids) >= expert.context:
        ids = ids[: expert.context - 1]
    try:
        pieces = expert.api.ids_to_pieces(ids)
    except Rejected as error:
        _refuse(expert, f"refuses ids of the student's tokenizer ({error.hint}): its vocabulary is smaller; {OTHER}")
    compared = 0
    for i, remote in zip(ids[1:], pieces):
        if remote is None:
            continue
        local, raw = tokenizer.decode([i]), tokenizer.convert_ids_to_tokens(i)
        if not _comparable(local) or not _comparable(remote):
            continue  # half of a character: neither side can write it
        if remote not in (local, raw) and remote.strip() != local.strip():
            what = f"{'end token' if i in ends else 'token'} {i}"
            _refuse(expert, f"its {what} is {remote!r}, the student's is {local!r}: the tokenizers differ; {OTHER}")
        compared += 1
    remote_ids = expert.api.text_to_ids(PROBE)
    local_ids = list(tokenizer(PROBE, add_special_tokens=False)["input_ids"])
    if remote_ids != local_ids:
        differ = (k for k, (a, b) in enumerate(zip(remote_ids, local_ids)) if a != b)
        at = next(differ, min(len(remote_ids), len(local_ids)))
        pair = f"{remote_ids[at : at + 3]}, {local_ids[at : at + 3]}"
        _refuse(expert, f"its tokenizer gives other ids for the same text (token {at}: {pair}): {OTHER}")
    return compared + len(local_ids)


def _comparable(text: str) -> bool:
    return bool(text) and "\N{REPLACEMENT CHARACTER}" not in text


def _refuse(expert: TokenExpert, hint: str) -> NoReturn:
    raise UserError(expert.field, expert.where, hint) from None


def noise(expert: TokenExpert, rollouts: Sequence[Rollout], local: Any = None) -> dict[str, float]:
    """Mean and largest differences, in nats per token, between: two scorings of the same tokens (together and alone),
    sampling and scoring, and server and local copy. UserError where a mean is above the limit."""
    limit = expert.noise
    together = [x.numpy() for x in expert.score(rollouts)]
    others = {
        "again": [expert.score([r])[0].numpy() for r in reversed(rollouts)][::-1],
        "sampled": [np.array(r.behavior_logp) for r in rollouts],
    }
    meanings = {
        "again": "scores the same tokens differently when asked twice",
        "sampled": "reports other log-probs of the tokens it samples than when it scores them (--logprobs-mode?)",
        "local": f"scores differently than the local copy {expert.local} (other weights? precision?)",
    }
    if local is not None:
        others["local"] = [x.cpu().numpy() for x in local.score(rollouts)]
    out: dict[str, float] = {}
    for name, scores in others.items():
        gap = np.abs(np.concatenate(scores) - np.concatenate(together))
        out |= {f"{name}_mean": float(gap.mean()), f"{name}_max": float(gap.max())}
    for name in others:
        value = out[f"{name}_mean"]
        if not math.isfinite(value) or value > limit:
            hint = (
                f"{meanings[name]}: by {value:.4f} nats per token in the mean, the limit is {limit:g}; repair the "
                f"{expert.kind}, or allow it with {expert.allow}"
            )
            raise UserError(f"{expert.field}.noise", expert.where, hint)
    return out
