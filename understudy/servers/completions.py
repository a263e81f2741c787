"""The completions API as vLLM serves it, token-exact: requests. (Answers: responses.py.)

Requests hold token ids, never text. Every sampling option is set, because vLLM takes defaults from the model's
generation_config.json (a temperature of 0.6, top-k 20, a repetition penalty).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from understudy.errors import UserError
from understudy.servers import responses
from understudy.servers.http import BadAnswer, Client
from understudy.servers.responses import Drawn, Scores, Tokens, read_samples, read_scores

ENTRY = 512  # bytes that one token's log-prob may take in an answer


class Completions:
    """One model on one server."""

    def __init__(self, client: Client, model: str, end_ids: Sequence[int], vocabulary: int) -> None:
        self.client, self.model = client, model
        self.end_ids, self.vocabulary = tuple(end_ids), vocabulary

    def score(
        self,
        sequences: Sequence[Tokens],
        top_k: int = 0,
        rows: int = 8,
        done: Callable[[int, Scores], None] = lambda i, s: None,
    ) -> list[Scores]:
        """Scores of every completion, in order; `done(i, scores)` as each arrives. `rows` of them per request."""
        out: dict[int, Scores] = {}

        def run(which: list[int]) -> list[Scores]:
            part = [sequences[i] for i in which]
            body = self._body([s.ids for s in part], 1) | {"prompt_logprobs": top_k, "temperature": 1.0}
            expected = (part, top_k, self.model, self.vocabulary)
            room = ENTRY * (top_k + 1) * sum(len(s.ids) for s in part)
            return self.client.post("/completions", body, lambda answer: read_scores(answer, *expected), room)

        def arrived(which: list[int], scores: list[Scores]) -> None:
            for i, s in zip(which, scores):
                out[i] = s
                done(i, s)

        # neighbours of similar length share a request, so that none waits for a long one
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i].prompt) + len(sequences[i].completion))
        self.client.each([order[at : at + rows] for at in range(0, len(order), rows)], run, arrived)
        return [out[i] for i in range(len(sequences))]

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
        out: dict[int, list[Drawn]] = {}

        def run(i: int) -> list[Drawn]:
            body = self._body([list(prompts[i])], max_new_tokens) | {
                "n": samples, "seed": seeds[i], "temperature": temperature, "top_p": top_p, "logprobs": 0,
                "stop_token_ids": list(self.end_ids), "ignore_eos": True,  # only the student's end tokens
            }  # fmt: skip
            expected = (list(prompts[i]), samples, max_new_tokens, self.end_ids, self.vocabulary, self.model)
            room = 4 * ENTRY * samples * (len(prompts[i]) + max_new_tokens)
            return self.client.post("/completions", body, lambda answer: read_samples(answer, *expected), room)

        self.client.each(range(len(prompts)), run, out.__setitem__)
        return [out[i] for i in range(len(prompts))]

    def text_to_ids(self, text: str) -> list[int]:
        """The ids that the server's own tokenizer gives `text` (no special tokens added)."""

        def check(answer: Any) -> list[int]:
            (choice,) = responses.choices(answer, 1, self.model)
            return responses.whole_numbers(choice.get("prompt_token_ids"), "prompt_token_ids")

        body = self._body([], 1) | {"prompt": text, "add_special_tokens": False, "temperature": 1.0}
        return self.client.post("/completions", body, check)

    def ids_to_pieces(self, ids: Sequence[int]) -> list[str | None]:
        """The text that the server's tokenizer has for each of `ids` but the first."""

        def check(answer: Any) -> list[str | None]:
            (choice,) = responses.choices(answer, 1, self.model)
            rows = responses.prompt_rows(choice, len(ids))
            pieces = [(row or {}).get(str(i), {}).get("decoded_token") for i, row in zip(ids[1:], rows[1:])]
            if not all(piece is None or isinstance(piece, str) for piece in pieces):
                raise BadAnswer("a decoded_token is not text")
            return pieces

        body = self._body([list(ids)], 1) | {"prompt_logprobs": 0, "temperature": 1.0}
        return self.client.post("/completions", body, check)

    def _body(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        return {
            "model": self.model, "prompt": prompts, "max_tokens": max_tokens, "n": 1, "stream": False, "echo": False,
            "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "return_token_ids": True, "return_tokens_as_token_ids": True,
        }  # fmt: skip


def list_models(client: Client) -> list[dict[str, Any]]:
    """The entries of /models: each has an `id`; vLLM adds `root` (where it was loaded from) and `max_model_len`."""

    def check(answer: Any) -> list[dict[str, Any]]:
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or not all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in data):
            raise BadAnswer("/models is not a list of models")
        if not all(_context(m) for m in data):
            raise BadAnswer("max_model_len is not a number of tokens")
        return data

    return client.get("/models", check)


def _context(entry: dict[str, Any]) -> bool:
    """Whether its context is a whole number of tokens, or not given."""
    value = entry.get("max_model_len")
    return value is None or (type(value) is int and 0 <= value < 2**31)


def choose_model(models: Sequence[dict[str, Any]], wanted: str, field: str, url: str) -> dict[str, Any]:
    """The entry of the wanted model; with none wanted, the only one."""
    if not wanted and len(models) == 1:
        return models[0]
    for entry in models:
        if entry["id"] == wanted:
            return entry
    names = ", ".join(str(m["id"]) for m in models[:8]) or "none"
    if wanted:
        raise UserError(f"{field}.model", wanted, f"{url} does not serve it; it serves {names}")
    raise UserError(f"{field}.model", "", f"missing: {url} serves {names}; write server:url={url},model=NAME")
