"""A task from rows of a data set: official splits without common problems, explicit prompts, a verifier by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Expert, Task
from understudy.specs import Spec, build
from understudy.tasks.generated import place
from understudy.tasks.text.answers import cut, final_answer, thought_out
from understudy.tasks.text.catalog import DATASETS
from understudy.tasks.text.config import TextConfig
from understudy.tasks.text.loading import OWN, Loader
from understudy.tasks.text.numbers import bare, is_sentence
from understudy.tasks.text.prompting import PromptStyle, boxed
from understudy.tasks.text.schemas import Item
from understudy.tasks.text.verifiers import Verifier, load_verifier
from understudy.tasks.tokenizer import make_tokenizer
from understudy.types import Prompt, Rollout

SHORT = 60  # characters of a line that may be nothing but an answer


class TextTask(Task):
    """`name` is the data set of train (or of test, where it has no train split)."""

    def __init__(self, name: str, config: TextConfig | None = None) -> None:
        self.name, self.config = name, config or TextConfig()
        c, data = self.config, DATASETS[name]
        self._named = {"train": name, "test": c.test or name, "ood": c.ood or name, "forget": c.forget or name}
        self._verifiers: dict[str, Verifier] = {}
        for used in dict.fromkeys(self._named.values()):  # report a missing extra before any row is read
            if used != OWN or c.verifier:  # its rows may name their own
                self._verifier(self._verifier_name(used))
        self._words = {name: c.words(name) for name in ("system", "prefill")}
        self._instruction = c.words("instruction", data.instruction)
        self._loader = Loader(name, c)
        self._items = self._loader.splits()
        self._template = c.template or ("chat" if name == OWN and self._are_conversations() else "plain")
        self._traces: dict[str, tuple[str, ...]] = {}
        self._demonstrations: dict[str, str] = {}
        self.dropped = self._loader.dropped
        self.splits: tuple[str, ...] = tuple(self._items)
        self.stop: tuple[str, ...] = c.stops
        self.thinking: str = c.tag
        self.max_new_tokens: int = c.max_new_tokens or data.max_new_tokens
        self.verified: bool = self.graded(self.splits[0])
        self.room = "given" if c.max_new_tokens else "usual" if name != "data" else "unknown"
        self.keywords: tuple[str, ...] = ("\\boxed", "</think>", "wait", "check")

    @classmethod
    def from_spec(cls, spec: Spec) -> TextTask:
        return cls(spec.name, build(TextConfig, spec.args, "task"))

    # -- what was read ------------------------------------------------------------------------------------------

    def _are_conversations(self) -> bool:
        return all(item.turns for items in self._items.values() for item in items)

    def graded(self, split: str) -> bool:
        """Whether the problems of a split have answers: all or none do."""
        if split not in self._items:
            return False
        first = self._items[split][0]
        return (first.verifier or self._verifier_name(self._named[split])) != "none"

    def leave_out(self, split: str, prompts: Sequence[Prompt], why: str) -> bool:
        """As Task.leave_out, where too_long=drop. UserError: nothing would be left."""
        if self.config.too_long != "drop":
            return False
        gone = {str(p.data["problem"]) for p in prompts}
        kept = [i for i in self._items[split] if i.fingerprint() not in gone]
        if not kept:
            raise UserError("task", self.name, f"leaves no problem for {split} ({len(gone):,} {why})")
        self._items[split] = kept
        self.dropped[why] = self.dropped.get(why, 0) + len(gone)
        return True

    def about(self) -> str:
        """What was read, in which format, what was left out and why, and what follows from it."""
        own = [i for split, items in self._items.items() if self._named[split] == self.name for i in items]
        reading, parts = self._loader.reading, [f"{self._loader.reading.rows:,} rows"]
        if reading.formats:
            several = len(reading.formats) > 1
            shown = (f"{name} ({n:,})" if several else name for name, n in reading.formats.items())
            parts.append(f"format {', '.join(shown)}")
            parts.append(f"traces {_share(sum(bool(i.traces) for i in own), len(own))}")
            parts.append(f"answers {_share(sum(bool(i.answer) for i in own), len(own))}")
            parts.append(f"template {self._template}")
        parts.append("; ".join(f"{split} {len(items):,}" for split, items in self._items.items()))
        lines = [", ".join(parts)]
        if self.dropped:
            lines.append("left out: " + ", ".join(f"{n:,} {why}" for why, n in self.dropped.items()))
        if reading.unread:
            more = f" and {len(reading.unread) - 3} more" if len(reading.unread) > 3 else ""
            lines.append(f"not read: {', '.join(p.name for p in reading.unread[:3])}{more}")
        if not self.verified:
            lines.append("verifier none: accuracy is not measured, methods that need rewards are refused")
        return f"{self.name}: " + "; ".join(lines)

    def digest(self) -> str:
        """Of every problem with its answer and traces, in order, and of the words around them."""
        c = self.config
        state = hashlib.blake2b(digest_size=16)
        around = [*self._words.values(), self._instruction, self._template, *c.stops]
        for text in around:
            state.update(repr(text).encode("utf-8", "surrogatepass"))
        for split, items in self._items.items():
            state.update(f"\x1d{split}".encode())
            for i in items:
                facts = (i.problem, i.answer, i.turns, i.choices, i.verifier, i.traces)
                state.update(repr(facts).encode("utf-8", "surrogatepass"))
        return state.hexdigest()

    # -- problems -----------------------------------------------------------------------------------------------

    def size(self, split: str) -> int | None:
        """Distinct problems of a split."""
        return len(self.pool(split))

    def pool(self, split: str) -> list[Item]:
        if split not in self._items:
            only = " (it is for evaluation only)" if split == "train" else ""
            raise UserError("split", split, f"{self.name} has {', '.join(self._items)}{only}")
        return self._items[split]

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        """Passes over all distinct problems, each pass in a new random order of (split, seed)."""
        pool = self.pool(split)
        out = []
        for index in range(start, start + n):
            out.append(self._prompt(split, pool[place(len(pool), index, "rows", self.name, split, seed)]))
        return out

    # -- prompts ------------------------------------------------------------------------------------------------

    def _prompt(self, split: str, item: Item) -> Prompt:
        name = self._named[split]
        shots = self._shots(name, split, item)
        instruction = "" if shots and self.config.instruction is None else self._instruction  # examples show how
        if name != self.name and self.config.instruction is None and not shots:
            instruction = DATASETS[name].instruction
        style = PromptStyle(self._template, self._words["system"], instruction, self._words["prefill"])
        verifier = item.verifier or self._verifier_name(name)
        return style.prompt(name, replace(item, verifier=verifier), shots)

    def _shots(self, name: str, split: str, item: Item) -> Sequence[Item]:
        c = self.config
        n = c.shots if c.shots is not None and name == self.name else DATASETS[name].shots
        if n == 0:
            return ()
        pool = self._loader.examples(name, split, self._items.get("train", []))
        same = (i for i in pool if i.subject == item.subject or not item.subject)
        examples = list(islice((i for i in same if i.fingerprint() != item.fingerprint()), n))
        if len(examples) < n:
            of = f" of subject {item.subject!r}" if item.subject else ""
            raise UserError("task.shots", n, f"{name} has only {len(examples)} examples{of}: use fewer, or shots=0")
        return examples

    # -- answers ------------------------------------------------------------------------------------------------

    def _verifier_name(self, name: str) -> str:
        """Of the problems of a data set that name none."""
        return (self.config.verifier if name == self.name else "") or DATASETS[name].verifier

    def _verifier(self, name: str) -> Verifier:
        if name not in self._verifiers:
            self._verifiers[name] = load_verifier(name, "task.verifier", self.config.workers, self.config.time_limit)
        return self._verifiers[name]

    def answer(self, prompt: Prompt, text: str) -> str:
        """The answer that a completion gives; "" if none."""
        text = thought_out(cut(text, self.stop), self.config.tag, self.config.opened(prompt))
        if "choices" in prompt.data:
            marked = final_answer(text, "marked")
            return marked if marked is not None else text.strip()[:200]
        answer = final_answer(text, self.config.extract)
        if answer is None and self.config.extract != "box":
            whole = bare(text)  # a completion that is nothing but its answer
            short = len(whole) <= SHORT and not is_sentence(whole)  # a sentence may be the first of many
            if "\n" not in whole and (short or prompt.data["verifier"] == "exact"):
                return whole
        return answer or ""

    def verify_all(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """As Task.verify_all."""
        graded = [i for i, r in enumerate(rollouts) if r.prompt.data["verifier"] != "none"]
        out = list(rollouts)
        for i, done in zip(graded, super().verify_all([rollouts[i] for i in graded]) if graded else ()):
            out[i] = done
        return out

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return self.verify_many([(prompt, text, ended)])[0]

    def verify_many(self, completions: Sequence[tuple[Prompt, str, bool]]) -> list[float]:
        """Rewards of many completions at once: math-verify's processes work side by side. Ungraded: 0.0."""
        out = [0.0] * len(completions)
        groups: dict[str, list[int]] = {}
        for i, (prompt, _, _) in enumerate(completions):
            groups.setdefault(str(prompt.data["verifier"]), []).append(i)
        for name, members in groups.items():
            pairs = [(str(completions[i][0].data["answer"]), self.answer(*completions[i][:2])) for i in members]
            answered = [k for k, (_, answer) in enumerate(pairs) if answer]
            for k, right in zip(answered, self._verifier(name).right([pairs[k] for k in answered])):
                out[members[k]] = 1.0 if right else 0.0
        return out

    def gold(self, prompt: Prompt) -> str:
        answer = str(prompt.data["answer"])
        if prompt.data["verifier"] == "none":
            raise UserError("task.data", prompt.data["where"], "has no answer")
        why = self._verifier(str(prompt.data["verifier"])).bad_gold(answer)
        if why:
            raise UserError("task.data", f"{prompt.data['where']}, answer {answer!r}", why)
        thought = f"</{self.config.tag}>" if self.config.opened(prompt) else ""
        return thought + (answer if "choices" in prompt.data else boxed(answer))

    def traces(self, prompt: Prompt) -> tuple[str, ...]:
        """As Task.traces. UserError: traces were not read."""
        self.check_traces()
        if not self._traces:
            self._traces = {i.fingerprint(): i.traces for i in self._items.get("train", [])}
        return self._traces.get(str(prompt.data["problem"]), ())

    def demonstration(self, prompt: Prompt) -> str:
        """As Task.demonstration: the first trace of the problem."""
        if not self._demonstrations:
            every = (i for items in self._items.values() for i in items)
            self._demonstrations = {i.fingerprint(): i.traces[0] if i.traces else "" for i in every}
        return self._demonstrations.get(str(prompt.data["problem"]), "")

    def check_traces(self) -> None:
        """UserError unless every train problem has a trace."""
        c, items = self.config, self._items.get("train", [])
        if c.traces is False or (c.traces is None and self.name != OWN):
            raise UserError("expert", "recorded", f"needs the traces: use --task {self.name}:traces=true,...")
        without = [i for i in items if not i.traces]
        if len(without) == len(items):
            hint = "no row has a completion to imitate: add one to each (docs/tasks.md), or give a model as expert"
            raise UserError("expert", "recorded", hint)
        if without:
            hint = f"{len(without):,} of {len(items):,} train problems have no completion, first {without[0].where}"
            raise UserError("expert", "recorded", f"{hint}: leave them out with traces=true in --task")

    def recorded_texts(self, most: int) -> Sequence[str]:
        texts = [text for item in self._items.get("train", []) for text in item.traces]
        return texts[:: max(1, len(texts) // most)][:most]

    # -- models -------------------------------------------------------------------------------------------------

    def tokenizer(self) -> Any:
        return plain_tokenizer()

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """`recorded`: its traces."""
        # imported here: tasks do without torch
        from understudy.experts.recorded import RecordedExpert

        if spec.name != "recorded":
            raise UserError("expert", spec.text, "unknown; this task has `recorded` (its traces), or give a model")
        self.check_traces()
        return RecordedExpert(self, tokenizer, spec)


def _share(n: int, of: int) -> str:
    return "yes" if n == of else "no" if not n else f"in {n:,}"


@cache
def plain_tokenizer() -> Any:
    """The byte-level tokenizer of new models, with a chat template in plain text."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    return tokenizer
