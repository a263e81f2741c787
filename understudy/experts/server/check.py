"""Before a server's scores are trained on: does it speak the student's language, and how noisy is it?

A foreign tokenizer gives nonsense scores without a word (DESIGN.md, trap 7), and a server's noise can exceed the signal
(trap 8). Everything here either agrees or stops with one line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.errors import UserError
from understudy.experts.server.expert import ServerExpert
from understudy.randomness import generator
from understudy.servers.http import Rejected
from understudy.types import Prompt, Rollout

PROBE = "3+5=8 ok\nThe 12 quick foxes.  é✓ def f(x):\n\treturn x**2 \\boxed{42}"
PROMPTS = 4
TOKENS = 24


def preflight(expert: ServerExpert, prompts: Sequence[Prompt], local: Any = None) -> dict[str, Any]:
    """What was measured, for the run's provenance. prompts: some of the task's, encoded by the student.

    local: a policy with the same weights; its scores must agree. UserError where anything does not.
    """
    told = {"tokens_compared": same_tokens(expert)}
    room = TOKENS if not expert.context else min(TOKENS, expert.context - max(len(p.ids) for p in prompts) - 1)
    if room < 1:
        hint = f"its context of {expert.context} tokens has no room for the task's prompts: serve it with a longer one"
        raise UserError(expert.field, expert.config.url, hint)
    drawn = expert.api.sample([p.ids for p in prompts[:PROMPTS]], 1, list(range(PROMPTS))[: len(prompts)], room)
    rollouts = [Rollout(p, 0, d.ids, d.logp, d.ended, "", "expert") for p, (d,) in zip(prompts[:PROMPTS], drawn)]
    return told | {"noise": noise(expert, rollouts, local)}


def same_tokens(expert: ServerExpert) -> int:
    """How many ids were found to be the same on both sides. UserError at the first that is not."""
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
        hint = f"refuses ids of the student's tokenizer ({error.hint}): its vocabulary is smaller; use the same"
        raise UserError(expert.field, expert.config.url, hint) from None
    compared = 0
    for i, theirs in zip(ids[1:], pieces):
        if theirs is None:
            continue
        ours, raw = tokenizer.decode([i]), tokenizer.convert_ids_to_tokens(i)
        if not _comparable(ours) or not _comparable(theirs):
            continue  # half of a character: neither side can write it
        if theirs not in (ours, raw) and theirs.strip() != ours.strip():
            what = "end token" if i in ends else "token"
            hint = f"its {what} {i} is {theirs!r}, the student's is {ours!r}: the tokenizers differ; use the same one"
            raise UserError(expert.field, expert.config.url, hint)
        compared += 1
    theirs_ids = expert.api.text_to_ids(PROBE)
    ours_ids = list(tokenizer(PROBE, add_special_tokens=False)["input_ids"])
    if theirs_ids != ours_ids:
        at = next(
            (k for k, (a, b) in enumerate(zip(theirs_ids, ours_ids)) if a != b), min(len(theirs_ids), len(ours_ids))
        )
        hint = (
            f"its tokenizer makes other ids of the same text than the student's (token {at}: "
            f"{theirs_ids[at : at + 3]}, {ours_ids[at : at + 3]}): use the same one"
        )
        raise UserError(expert.field, expert.config.url, hint)
    return compared + len(ours_ids)


def _comparable(text: str) -> bool:
    return bool(text) and "\N{REPLACEMENT CHARACTER}" not in text


def noise(expert: ServerExpert, rollouts: Sequence[Rollout], local: Any = None) -> dict[str, float]:
    """Mean and largest differences, nats a token, between: two scorings of the same tokens (together and alone),
    sampling and scoring, and server and local copy. UserError where a mean is above the limit."""
    limit = expert.config.noise
    together = expert.score(rollouts)
    alone = [expert.score([r])[0] for r in reversed(rollouts)][::-1]
    out = _gap("again", [x.numpy() for x in together], [x.numpy() for x in alone])
    out |= _gap("sampled", [np.array(r.behavior_logp) for r in rollouts], [x.numpy() for x in together])
    means = {
        "again": "scores the same tokens differently when asked twice",
        "sampled": "reports other log-probs of the tokens it samples than when it scores them (--logprobs-mode?)",
    }
    if local is not None:
        ours = [x.cpu().numpy() for x in local.score(rollouts)]
        out |= _gap("local", ours, [x.numpy() for x in together])
        means["local"] = f"scores differently than the local copy {expert.config.local} (other weights? precision?)"
    for name, words in means.items():
        value = out[f"{name}_mean"]
        if not math.isfinite(value) or value > limit:
            hint = (
                f"{words}: by {value:.4f} nats a token in the mean, the limit is {limit:g}; mend the server, or "
                "allow it with server:url=...,noise=X"
            )
            raise UserError(f"{expert.field}.noise", expert.config.url, hint)
    return out


def _gap(name: str, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> dict[str, float]:
    difference = np.abs(np.concatenate(a) - np.concatenate(b))
    return {f"{name}_mean": float(difference.mean()), f"{name}_max": float(difference.max())}
