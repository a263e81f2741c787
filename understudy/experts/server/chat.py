"""A black box: a chat API that gives text and nothing else. Legal where a row needs samples only (sft, seq_kd).

Its text is encoded again by the student's tokenizer, and the provenance says so: the ids are not those that the expert
sampled, there may be more or fewer of them, and their log-probs are unknown (NaN: a loss that reads them stops).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from understudy.errors import UserError
from understudy.experts.server.expert import RemoteExpert, as_rollout
from understudy.randomness import seed_from
from understudy.servers.completions import choose_model, list_models
from understudy.servers.http import BadAnswer, Rejected
from understudy.servers.responses import Drawn
from understudy.types import Prompt, Rollout


class ChatExpert(RemoteExpert):
    """`temperature` and `top_p` are passed on; what else the service does with them is not known."""

    kind = "black box"
    capabilities = frozenset({"sample"})
    hint = "a black box gives samples only: use sft or seq_kd, or a server with log-probs (vLLM, api=completions)"
    _room = "max_tokens"

    def open(self) -> dict[str, Any]:
        self.name = self.config.model or self._only_model()
        return {"tokens": "its text, written again by the student's tokenizer; log-probs unknown"}

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
            out[job] = self.encoded(prompts[i], s, *answer, max_new_tokens)

        self.client.each(jobs, run, arrived)
        return [out[job] for job in jobs]

    def encoded(self, prompt: Prompt, sample: int, text: str, ended: bool, room: int) -> Rollout:
        """The completion `text` in the student's tokens, at most `room` of them."""
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = [i for i in ids if i not in self.end_ids]  # an end token spelled out in the text is not an end
        if ended:
            ids.append(self.end_ids[0])
        if not ids:
            hint = f"prompt {prompt.key} got no text in {room} tokens: raise --max-new-tokens"
            raise UserError(self.field, self.config.url, hint)
        if len(ids) > room:  # more tokens than the expert needed: cut, and then it has not ended
            ids, ended = ids[:room], False
        shown = self.tokenizer.decode(ids, skip_special_tokens=True)
        return as_rollout(prompt, sample, Drawn(tuple(ids), (), ended), shown, False)


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt's own turns if it has some (template=chat), else its text as the user's."""
    turns = prompt.messages or (("user", prompt.text),)
    return [{"role": role, "content": content} for role, content in turns]


def read_chat(answer: Any) -> tuple[str, bool]:
    """(text, whether it ended by itself) of a chat answer with one choice; BadAnswer otherwise."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise BadAnswer("the answer does not hold one choice")
    message, reason = choices[0].get("message"), choices[0].get("finish_reason")
    text = message.get("content") if isinstance(message, dict) else None
    if reason not in ("stop", "length"):
        raise BadAnswer(f"the completion was cut off ({str(reason)[:40]})")
    if not isinstance(text, str):
        raise BadAnswer("the answer holds no text")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise BadAnswer("the text holds half a surrogate pair")
    return text, reason == "stop"
