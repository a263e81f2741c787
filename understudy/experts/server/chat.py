"""A black box: a chat API that gives text and nothing else. Legal where a row needs samples only (sft, seq_kd).

Its text is encoded again by the student's tokenizer, and the provenance says so: the ids are not those that the expert
sampled, there may be more or fewer of them, and their log-probs are unknown (NaN: a loss that reads them stops).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import UserError
from understudy.experts.server.expert import RemoteExpert
from understudy.experts.written import Written, as_rollouts
from understudy.policy import Policy
from understudy.randomness import seed_from
from understudy.servers.completions import choose_model, list_models
from understudy.servers.config import ServerConfig
from understudy.servers.http import BadAnswer, Rejected
from understudy.types import Prompt, Rollout


class ChatExpert(RemoteExpert):
    """`temperature` and `top_p` are passed on; what else the service does with them is not known."""

    kind = "black box"
    capabilities = frozenset({"sample"})
    hint = "a black box gives samples only: use sft or seq_kd, or a server with log-probs (vLLM, api=completions)"
    _room = "max_tokens"

    def __init__(
        self, config: ServerConfig, student: Policy, temperature: float = 1.0, top_p: float = 1.0, tag: str = "think"
    ) -> None:
        """tag: around the thoughts that the service gives apart from the answer; "" = they are left out."""
        self.student, self.tag = student, tag
        super().__init__(config, student, temperature, top_p)

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
        """One answer without text is a blank rollout. UserError: no answer of several has any."""
        out: dict[tuple[int, int], Rollout] = {}
        jobs = [(i, s) for i in range(len(prompts)) for s in range(samples)]

        def run(job: tuple[int, int]) -> Said:
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

        def arrived(job: tuple[int, int], said: Said) -> None:
            i, s = job
            out[job] = self.encoded(prompts[i], s, said.written(self.tag), said.ended, max_new_tokens)

        self.client.each(jobs, run, arrived)
        if all(r.blank for r in out.values()) and jobs:
            hint = f"gives no text in {max_new_tokens} tokens (hidden thoughts?): raise --max-new-tokens"
            raise UserError(self.field, self.config.url, hint)
        return [out[job] for job in jobs]

    def encoded(self, prompt: Prompt, sample: int, text: str, ended: bool, room: int) -> Rollout:
        """The completion `text` in the student's tokens, at most `room` of them."""
        return as_rollouts(self.student, [Written(prompt, sample, text, ended)], room)[0]


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt's own turns if it has some (template=chat), else its text as the user's."""
    turns = prompt.messages or (("user", prompt.text),)
    return [{"role": role, "content": content} for role, content in turns]


@dataclass(frozen=True)
class Said:
    """What a chat answer holds. ended: by itself, not by a limit."""

    content: str
    reasoning: str
    ended: bool

    def written(self, tag: str) -> str:
        """As one text, the thought in `tag` before the answer; "" = without its thought."""
        if not self.reasoning.strip() or not tag or f"</{tag}>" in self.content:
            return self.content
        thought = f"<{tag}>\n{self.reasoning.strip()}"
        if not self.content.strip() and not self.ended:
            return thought  # cut off while it thought
        return f"{thought}\n</{tag}>\n\n{self.content.lstrip()}"


def read_chat(answer: Any) -> Said:
    """Of a chat answer with one choice; BadAnswer: it holds none, or no text where there must be one.

    No content (null) is none: all room went into a thought, or a filter or a refusal kept it back.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise BadAnswer("the answer does not hold one choice")
    message, reason = choices[0].get("message"), choices[0].get("finish_reason")
    if not isinstance(message, dict):
        raise BadAnswer("the answer holds no text")
    reason = reason.lower() if isinstance(reason, str) else reason
    if reason == "content_filter":
        return Said("", "", True)
    if reason not in (*_ENDED, *_CUT):
        raise BadAnswer(f"the completion was cut off ({str(reason)[:40]})")
    content, thoughts = _parts(message.get("content"))
    thoughts += [message[name] for name in _REASONING if isinstance(message.get(name), str)][:1]
    reasoning = "".join(thoughts)
    if any("\ud800" <= c <= "\udfff" for c in content + reasoning):
        raise BadAnswer("the text holds half a surrogate pair")
    return Said(content, reasoning, reason in _ENDED)


_ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")
_CUT = ("length", "max_tokens")
_REASONING = ("reasoning_content", "reasoning", "thinking")


def _parts(content: Any) -> tuple[str, list[str]]:
    """(text, thoughts) of a message's content: text, nothing, or parts of type text and thinking."""
    if content is None or isinstance(content, str):
        return content or "", []
    texts, thoughts = [], []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict) and isinstance(part.get("thinking"), (str, list)):
            inner = part["thinking"]
            pieces = inner if isinstance(inner, list) else [{"text": inner}]
            thoughts += [p["text"] for p in pieces if isinstance(p, dict) and isinstance(p.get("text"), str)]
        else:
            raise BadAnswer("the content is neither text nor parts of text")
    return "".join(texts), thoughts
