"""Reads a server's answers: everything is checked before it is used, and nothing is guessed.

The number of choices, tokens and log-probs, the model's name, the ids sent and the ids echoed, finite log-probs, ends.
All functions raise only BadAnswer, whatever the answer holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.servers.http import BadAnswer

SLACK = 1e-3  # a log-prob may be this far above 0: rounding
NOTHING = -9000.0  # vLLM writes minus infinity as -9999
_NAMED_ID = re.compile(r"token_id:(0|[1-9][0-9]{0,11})")
_ID = re.compile(r"0|[1-9][0-9]{0,11}")  # one way to write each id, so that none can be there twice


@dataclass(frozen=True)
class Scores:
    """Of one completion of T tokens: their log-probs (nats), and the top k of each position if requested."""

    logp: tuple[float, ...]
    top_ids: tuple[tuple[int, ...], ...] = ()
    top_logp: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Drawn:
    """One sampled completion. `ended`: its last id is an end token, which is one of `ids`."""

    ids: tuple[int, ...]
    logp: tuple[float, ...]
    ended: bool


@dataclass(frozen=True)
class Tokens:
    """A prompt and a completion of it, as ids, to be scored."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    @property
    def ids(self) -> list[int]:
        return [*self.prompt, *self.completion]


def choices(answer: Any, n: int, model: str) -> list[dict[str, Any]]:
    """The `n` choices of an answer, by index."""
    if not isinstance(answer, dict):
        raise BadAnswer("the answer is not a JSON object")
    if answer.get("model") != model:
        raise BadAnswer(f"the answer is of model {str(answer.get('model'))[:80]!r}, not {model!r}")
    items = answer.get("choices")
    if not isinstance(items, list) or len(items) != n or not all(isinstance(c, dict) for c in items):
        size = len(items) if isinstance(items, list) else "no"
        raise BadAnswer(f"{size} choices instead of {n}")
    by_index = {c["index"]: c for c in items if type(c.get("index")) is int}
    if set(by_index) != set(range(n)):
        raise BadAnswer("the choices are not numbered 0, 1, ...")
    return [by_index[i] for i in range(n)]


def whole_numbers(value: Any, name: str, below: int | None = None) -> list[int]:
    """A list of token ids, each less than `below`."""
    if not isinstance(value, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in value):
        raise BadAnswer(f"{name} is missing or not a list of token ids")
    if any(i < 0 or (below is not None and i >= below) for i in value):
        raise BadAnswer(f"{name} holds an id outside of the student's vocabulary of {below}")
    return value


def log_prob(value: Any, where: str) -> float:
    """A finite log-prob, at most 0 (up to rounding)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadAnswer(f"the log-prob {where} is {value if value is None else type(value).__name__}")
    if value != value or value > 1e9 or value <= NOTHING:  # a whole number may be too long for a float
        raise BadAnswer(f"the log-prob {where} is {str(value)[:20]}")
    if value > SLACK:
        raise BadAnswer(f"the log-prob {where} is {value}, a probability above 1")
    return min(float(value), 0.0)


def prompt_rows(choice: dict[str, Any], length: int) -> list[dict[str, Any] | None]:
    """prompt_logprobs of one choice: one entry per token, the first of them None."""
    rows = choice.get("prompt_logprobs")
    if rows is None:
        raise BadAnswer("prompt_logprobs is missing: this server does not score given tokens (vLLM does)")
    if not isinstance(rows, list) or len(rows) != length:
        size = len(rows) if isinstance(rows, list) else "no"
        raise BadAnswer(f"prompt_logprobs has {size} entries for {length} tokens")
    if not all(
        row is None or (isinstance(row, dict) and all(isinstance(e, dict) for e in row.values())) for row in rows
    ):
        raise BadAnswer("prompt_logprobs is not a list of {token id: {logprob}}")
    return rows


def read_scores(answer: Any, sent: Sequence[Tokens], top_k: int, model: str, vocabulary: int) -> list[Scores]:
    each = choices(answer, len(sent), model)
    usage = answer.get("usage")
    counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    total = sum(len(s.ids) for s in sent)
    if counted is not None and counted != total:
        raise BadAnswer(f"the server counted {counted} prompt tokens, {total} were sent")
    return [_scores(choice, s, top_k, vocabulary) for choice, s in zip(each, sent)]


def _scores(choice: dict[str, Any], sent: Tokens, top_k: int, vocabulary: int) -> Scores:
    ids, first = sent.ids, len(sent.prompt)
    echoed = choice.get("prompt_token_ids")
    if echoed is not None and echoed != ids:
        raise BadAnswer("the server scored other tokens than were sent")
    rows = prompt_rows(choice, len(ids))
    logp, top_ids, top_logp = [], [], []
    for t in range(first, len(ids)):
        row = rows[t] or {}
        if str(ids[t]) not in row:
            raise BadAnswer(f"prompt_logprobs lacks token {ids[t]} at place {t}")
        logp.append(log_prob(row[str(ids[t])].get("logprob"), f"of token {ids[t]} at place {t}"))
        if top_k:
            best = _top(row, top_k, vocabulary, t)
            top_ids.append(tuple(i for i, _ in best))
            top_logp.append(tuple(x for _, x in best))
    return Scores(tuple(logp), tuple(top_ids), tuple(top_logp))


def _top(row: dict[str, Any], k: int, vocabulary: int, t: int) -> list[tuple[int, float]]:
    """The k most likely of a row, which may also hold the token that was sent, with its lower rank."""
    if not all(_ID.fullmatch(name) for name in row):
        raise BadAnswer(f"the tokens at place {t} are not named by their ids")
    pairs = [(int(name), log_prob(e.get("logprob"), f"of token {name} at place {t}")) for name, e in row.items()]
    whole_numbers([i for i, _ in pairs], f"prompt_logprobs at place {t}", vocabulary)
    best = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k]
    if len(best) < min(k, vocabulary):
        raise BadAnswer(f"{len(best)} log-probs at place {t} instead of the top {k}")
    if math.fsum(math.exp(x) for _, x in best) > 1 + SLACK:
        raise BadAnswer(f"the top {k} at place {t} have a probability above 1")
    return best


def read_samples(
    answer: Any, prompt: list[int], samples: int, max_new_tokens: int, end_ids: Sequence[int], vocabulary: int,
    model: str,
) -> list[Drawn]:  # fmt: skip
    out = []
    for choice in choices(answer, samples, model):
        if choice.get("prompt_token_ids") not in (None, prompt):
            raise BadAnswer("the server continued another prompt than was sent")
        logprobs = choice.get("logprobs")
        logprobs = logprobs if isinstance(logprobs, dict) else {}
        ids = whole_numbers(_sampled_ids(choice, logprobs), "token_ids", vocabulary)
        logps = logprobs.get("token_logprobs")
        if not isinstance(logps, list) or len(logps) != len(ids):
            size = len(logps) if isinstance(logps, list) else "no"
            raise BadAnswer(f"{size} log-probs for {len(ids)} sampled tokens")
        reason = choice.get("finish_reason")
        if not 1 <= len(ids) <= max_new_tokens:
            raise BadAnswer(f"{len(ids)} tokens instead of 1 to {max_new_tokens}")
        if any(i in end_ids for i in ids[:-1]):
            raise BadAnswer("the completion continues after its end token")
        ended = ids[-1] in end_ids
        if not ended and len(ids) < max_new_tokens:
            raise BadAnswer(
                f"the completion stopped ({str(reason)[:40]}) after {len(ids)} of {max_new_tokens} tokens without one "
                f"of the student's end tokens {list(end_ids)}"
            )
        out.append(Drawn(tuple(ids), tuple(log_prob(x, "of a sampled token") for x in logps), ended))
    return out


def _sampled_ids(choice: dict[str, Any], logprobs: dict[str, Any]) -> Any:
    """`token_ids`, or tokens named "token_id:N"; when both are there they must agree."""
    names = logprobs.get("tokens")
    named: list[int] | None = None
    if isinstance(names, list) and all(isinstance(n, str) and _NAMED_ID.fullmatch(n) for n in names):
        named = [int(n.removeprefix("token_id:")) for n in names]
    ids = choice.get("token_ids")
    if ids is not None and named is not None and ids != named:
        raise BadAnswer("token_ids and the tokens of logprobs differ")
    return named if ids is None else ids
