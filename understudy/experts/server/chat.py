"""A black box: a chat API that gives text and nothing else. Legal where a row needs samples only (sft, seq_kd).

Its text is written again in the student's tokens, and the run says so: the ids are not those that the expert sampled,
there may be more or fewer of them, and their log-probs are unknown (NaN: whoever reads them stops).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from understudy.errors import UserError
from understudy.policy import tokenizer_sha
from understudy.protocols import Expert
from understudy.randomness import seed_from
from understudy.servers.completions import choose_model, list_models
from understudy.servers.config import ServerConfig
from understudy.servers.http import BadAnswer, Client, Rejected
from understudy.types import Prompt, Rollout


class ChatExpert(Expert):
    """`temperature` and `top_p` are passed on; what else the service does with them is not known."""

    capabilities = frozenset({"sample"})
    hint = "a black box gives samples only: use sft or seq_kd, or a server with log-probs (vLLM, api=completions)"

    def __init__(
        self, config: ServerConfig, student: Any, temperature: float = 1.0, top_p: float = 1.0, field: str = "expert"
    ) -> None:
        self.config, self.temperature, self.top_p, self.field = config, temperature, top_p, field
        self.tokenizer, self.vocabulary = student.tokenizer, int(student.vocabulary)
        self.end_ids = tuple(student.end_ids)
        self.client = Client(
            config.url, field, config.timeout, config.tries, config.concurrency, config.key_env, config.wait
        )
        self.name = config.model or self._only_model()
        self._room = "max_tokens"
        self.provenance = {
            "kind": "black box",
            "url": config.url,
            "model": self.name,
            "revision": config.revision,
            "tokens": "its text, written again by the student's tokenizer; log-probs unknown",
            "tokenizer_sha": tokenizer_sha(self.tokenizer),
        }

    def _only_model(self) -> str:
        try:
            models = list_models(self.client)
        except Rejected:
            models = []
        return str(choose_model(models, "", self.field, self.config.url)["id"])

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        out: dict[tuple[int, int], Rollout] = {}
        jobs = [(i, s) for i in range(len(prompts)) for s in range(samples)]

        def run(job: tuple[int, int]) -> tuple[str, bool]:
            i, s = job
            body: dict[str, Any] = {
                "model": self.name, "messages": messages(prompts[i]), self._room: max_new_tokens, "n": 1,
                "temperature": self.temperature, "top_p": self.top_p, "stream": False,
                "seed": seed_from("chat", seed, prompts[i].key, s) % 2**31,
            }  # fmt: skip
            try:
                return self.client.post("/chat/completions", body, read_chat)
            except Rejected as error:  # newer services know the longest completion by another name only
                if "max_completion_tokens" not in error.hint or "max_tokens" not in body:
                    raise
                self._room = "max_completion_tokens"
                body[self._room] = body.pop("max_tokens")
                return self.client.post("/chat/completions", body, read_chat)

        def arrived(job: tuple[int, int], answer: tuple[str, bool]) -> None:
            i, s = job
            out[job] = self._rollout(prompts[i], s, *answer, max_new_tokens)

        self.client.each(jobs, run, arrived)
        return [out[job] for job in jobs]

    def _rollout(self, prompt: Prompt, sample: int, text: str, ended: bool, room: int) -> Rollout:
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        # an end token that is spelled out in the text is text of somebody else's, not an end
        ids = [i for i in ids if i not in self.end_ids]
        if ended:
            ids.append(self.end_ids[0])
        if not ids:
            hint = f"prompt {prompt.key} got no text in {room} tokens: raise --max-new-tokens"
            raise UserError(self.field, self.config.url, hint)
        if len(ids) > room:  # more tokens than the expert needed: cut, and then it has not ended
            ids, ended = ids[:room], False
        shown = self.tokenizer.decode(ids, skip_special_tokens=True)
        unknown = (float("nan"),) * len(ids)
        return Rollout(prompt, sample, tuple(ids), unknown, ended, shown, "expert")


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt's own turns where it has some (template=chat), else its text as the user's."""
    turns = prompt.messages or (("user", prompt.text),)
    return [{"role": role, "content": content} for role, content in turns]


def read_chat(answer: Any) -> tuple[str, bool]:
    """(text, whether it ended by itself) of a chat answer with one choice; BadAnswer otherwise."""
    found = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
        raise BadAnswer("the answer does not hold one choice")
    message, reason = found[0].get("message"), found[0].get("finish_reason")
    text = message.get("content") if isinstance(message, dict) else None
    if reason not in ("stop", "length"):
        raise BadAnswer(f"the completion was cut off ({str(reason)[:40]})")
    if not isinstance(text, str):
        raise BadAnswer("the answer holds no text")
    return text, reason == "stop"
