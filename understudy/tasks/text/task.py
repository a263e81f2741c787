"""A task from rows of a data set: official splits without common problems, explicit prompts, a verifier by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Expert, Task
from understudy.specs import Spec, build
from understudy.tasks.generated import place
from understudy.tasks.text.answers import bare, cut, final_answer, thought_out
from understudy.tasks.text.catalog import DATASETS
from understudy.tasks.text.config import TextConfig
from understudy.tasks.text.loading import Loader
from understudy.tasks.text.prompting import PromptStyle, boxed
from understudy.tasks.text.schemas import Item
from understudy.tasks.text.verifiers import Verifier, load_verifier
from understudy.tasks.tokenizer import make_tokenizer
from understudy.types import Prompt

SHORT = 60  # characters of a line that may be nothing but an answer


class TextTask(Task):
    """`name` is the data set of train (or of test, where it has no train split)."""

    def __init__(self, name: str, config: TextConfig | None = None) -> None:
        self.name, self.config = name, config or TextConfig()
        c, data = self.config, DATASETS[name]
        self._named = {"train": name, "test": c.test or name, "ood": c.ood or name, "forget": c.forget or name}
        self._verifiers: dict[str, Verifier] = {}
        for used in dict.fromkeys(self._named.values()):  # report a missing extra before any row is read
            if used != "data" or c.verifier:  # its rows may name their own
                self._verifier(self._verifier_name(used))
        self._words = {name: c.words(name) for name in ("system", "prefill")}
        self._instruction = c.words("instruction", data.instruction)
        self._loader = Loader(name, c)
        self._items = self._loader.splits()
        self._traces: dict[str, tuple[str, ...]] = {}
        self.dropped = self._loader.dropped
        self.splits: tuple[str, ...] = tuple(self._items)
        self.stop: tuple[str, ...] = c.stops
        self.max_new_tokens: int = c.max_new_tokens or data.max_new_tokens
        self.keywords: tuple[str, ...] = ("\\boxed", "</think>", "wait", "check")

    @classmethod
    def from_spec(cls, spec: Spec) -> TextTask:
        return cls(spec.name, build(TextConfig, spec.args, "task"))

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
        style = PromptStyle(self.config.template, self._words["system"], instruction, self._words["prefill"])
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
        return (self.config.verifier if name == self.name else "") or DATASETS[name].verifier

    def _verifier(self, name: str) -> Verifier:
        if name not in self._verifiers:
            self._verifiers[name] = load_verifier(name, "task.verifier", self.config.workers, self.config.time_limit)
        return self._verifiers[name]

    def answer(self, prompt: Prompt, text: str) -> str:
        """The answer that a completion gives; "" if none."""
        text = thought_out(cut(text, self.stop), self.config.tag, self.config.thinking_open)
        if "choices" in prompt.data:
            marked = final_answer(text, "marked")
            return marked if marked is not None else text.strip()[:200]
        answer = final_answer(text, self.config.extract)
        if answer is None and self.config.extract != "box":
            whole = bare(text)  # a completion that is nothing but its answer
            if "\n" not in whole and (len(whole) <= SHORT or prompt.data["verifier"] == "exact"):
                return whole
        return answer or ""

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return self.verify_many([(prompt, text, ended)])[0]

    def verify_many(self, completions: Sequence[tuple[Prompt, str, bool]]) -> list[float]:
        """Rewards of many completions at once: math-verify's processes work side by side."""
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
        why = self._verifier(str(prompt.data["verifier"])).bad_gold(answer)
        if why:
            raise UserError("task.data", f"{prompt.data['where']}, answer {answer!r}", why)
        thought = f"</{self.config.tag}>" if self.config.thinking_open and self.config.tag else ""
        return thought + (answer if "choices" in prompt.data else boxed(answer))

    def traces(self, prompt: Prompt) -> tuple[str, ...]:
        """As Task.traces. UserError: traces were not read."""
        if not self.config.traces:
            raise UserError("expert", "recorded", f"needs the traces: use --task {self.name}:traces=true,...")
        if not self._traces:
            self._traces = {i.fingerprint(): i.traces for i in self._items.get("train", [])}
        return self._traces.get(str(prompt.data["problem"]), ())

    # -- models -------------------------------------------------------------------------------------------------

    def tokenizer(self) -> Any:
        return plain_tokenizer()

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """`recorded`: its traces."""
        # imported here: tasks do without torch
        from understudy.experts.recorded import RecordedExpert

        if spec.name != "recorded":
            raise UserError("expert", spec.text, "unknown; this task has `recorded` (its traces), or give a model")
        return RecordedExpert(self, tokenizer, spec)


@cache
def plain_tokenizer() -> Any:
    """The byte-level tokenizer of new models, with a chat template in plain text."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    return tokenizer
