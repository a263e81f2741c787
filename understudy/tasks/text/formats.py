"""The formats in which people have their rows: which one a row is in, and how it becomes an Item.

A new format is one entry of FORMATS. `fits` looks at the fields that have a value; the first that fits counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from understudy.errors import UserError
from understudy.tasks.text.answers import last_box
from understudy.tasks.text.rows import Row
from understudy.tasks.text.schemas import Item, read_choices, read_gsm8k
from understudy.tasks.text.turns import Turn, read_turns, split_turns

GOLDS = ("answer", "ground_truth", "gold")
"""Fields that hold the right answer."""
TEXTS = frozenset({
    "prompt", "messages", "conversations", "completion", "completions", "chosen", "rejected", "history",
})  # fmt: skip
"""Fields that hold the whole prompt or completions: a reward function has these anyway."""
WRITTEN = ("completion", "response", "output")
"""Fields that hold a completion."""


@dataclass(frozen=True)
class Format:
    fits: Callable[[Row], bool]
    read: Callable[[Row, str], Item]
    """read(row, tag of thoughts)."""
    fields: str
    """Its fields, for the documentation."""
    about: str


def _messages(row: Row, tag: str) -> Item:
    return _conversation(row, "messages" if row.has("messages") else "conversations", tag)


def _conversation(row: Row, field: str, tag: str) -> Item:
    """A conversation whose last turn of the assistant is the completion."""
    turns = read_turns(row, field)
    if row.has("system") and turns[0].role != "system":
        turns.insert(0, Turn("system", row.text("system")))
    prompt, answer = split_turns(row, field, turns)
    completions = (answer.completion(tag),) if answer else ()
    return _item(row, prompt, completions + _completions(row), _gold(row))


def _prompt(row: Row, tag: str) -> Item:
    """`prompt` as text or turns, with `completion` or `completions`, or without."""
    written: tuple[str, ...] = ()
    for name in WRITTEN:
        if row.has(name):
            written = (_completion(row, name, tag),)
            break
    label = row.values.get("label")
    if isinstance(label, bool) and written and not label:
        raise row.refuse("label", "marks a completion that is not wanted: leave such rows out with bad=drop")
    return _prompted(row, written + _completions(row), _gold(row))


def _prompted(row: Row, completions: tuple[str, ...], gold: str) -> Item:
    if isinstance(row.structure("prompt"), (list, tuple)):
        turns = read_turns(row, "prompt")
        if row.has("system") and turns[0].role != "system":
            turns.insert(0, Turn("system", row.text("system")))
        if turns[-1].role != "user":
            raise row.refuse("prompt", f"must end with a user's turn, not with role {turns[-1].role!r}")
        return _item(row, [t.pair for t in turns if t.content], completions, gold)
    text = row.text("prompt")
    if row.has("system"):
        return _item(row, [("system", row.text("system")), ("user", text)], completions, gold)
    return _named(row, Item(text, gold, verbatim=True, traces=completions, where=row.where))


def _verl(row: Row, tag: str) -> Item:
    value = row.inner("reward_model")
    gold = value.values.get("ground_truth")
    plain = isinstance(gold, (str, int, float)) and not isinstance(gold, bool) and value.has("ground_truth")
    return _prompted(row, _completions(row), value.answer("ground_truth") if plain else "")


def _alpaca(row: Row, tag: str) -> Item:
    """Instruction and input are the user's turn; `history`, pairs of (user, assistant), comes before it."""
    turns = [("system", row.text("system"))] if row.has("system") else []
    for i, pair in enumerate(row.items("history") if row.has("history") else []):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise row.refuse(f"history[{i}]", "must be a pair: what the user said, what the assistant answered")
        said, answered = (row.as_text(f"history[{i}]", text) for text in pair)
        turns += [("user", said), ("assistant", answered)]
    parts = [row.text(name) for name in ("instruction", "input") if row.has(name)]
    turns.append(("user", "\n\n".join(parts)))
    written = (row.text("output"),) if row.has("output") else ()
    return _item(row, turns, written + _completions(row), _gold(row))


def _question(row: Row, tag: str) -> Item:
    """`question` with `answer`, which is both the right answer and, where nothing else is written, the completion."""
    if row.has("choices"):
        return read_choices(row)
    if row.has("answer") and isinstance(row.get("answer"), str) and "####" in row.get("answer"):
        return read_gsm8k(row)
    name = "question" if row.has("question") else "query"
    written = tuple(_completion(row, name, tag) for name in WRITTEN if row.has(name))[:1] + _completions(row)
    gold = _gold(row)
    return _named(row, Item(row.text(name), gold, traces=written or ((gold,) if gold else ()), where=row.where))


def _problem(row: Row, tag: str) -> Item:
    """`problem` with `solution`, a completion; the answer is in `answer` or in the solution's last box."""
    solution = row.text("solution") if row.has("solution") else ""
    gold = _gold(row) or (last_box(solution) or "" if solution else "")
    written = ((solution,) if solution else ()) + _completions(row)
    return _named(row, Item(row.text("problem"), gold, traces=written, where=row.where))


def _chosen(row: Row, tag: str) -> Item:
    """A preference pair as a demonstration: `chosen` alone is read."""
    value = row.structure("chosen")
    if isinstance(value, (list, tuple)) and (not row.has("prompt") or len(value) > 1):
        return _conversation(row, "chosen", tag)  # it holds the prompt too
    return _prompted(row, (_completion(row, "chosen", tag),), _gold(row))


def _pair(row: Row, tag: str) -> Item:
    hint = "is a preference pair: format=chosen learns from `chosen` (nothing is learned from `rejected`)"
    raise row.refuse("rejected", hint)


# ---------------------------------------------------------------- parts


def _item(row: Row, turns: list[tuple[str, str]], completions: tuple[str, ...], gold: str) -> Item:
    problem = "\n\n".join(content for _, content in turns)
    return _named(row, Item(problem, gold, tuple(turns), traces=completions, where=row.where))


def _named(row: Row, item: Item) -> Item:
    """The item with the verifier that its row names."""
    verifier = row.text("verifier") if row.has("verifier") else ""
    if verifier == "none":
        return replace(item, answer="")
    return replace(item, verifier=verifier) if item.answer else item


def _gold(row: Row) -> str:
    name = next((name for name in GOLDS if row.has(name)), "")
    return row.answer(name) if name else ""


def _completion(row: Row, field: str, tag: str) -> str:
    """Text, or one turn of the assistant."""
    if not isinstance(row.structure(field), (list, tuple)):
        return row.text(field)
    turns = read_turns(row, field)
    if len(turns) != 1 or turns[0].role != "assistant":
        roles = ", ".join(turn.role for turn in turns[:4])
        raise row.refuse(field, f"must be one turn of the assistant, not {roles}: put the others into `prompt`")
    return turns[0].completion(tag)


def _completions(row: Row) -> tuple[str, ...]:
    return tuple(row.texts("completions")) if row.has("completions") else ()


def _from_value(row: Row) -> bool:
    items = row.structure("conversations") if row.has("conversations") else None
    return isinstance(items, (list, tuple)) and bool(items) and isinstance(items[0], Mapping) and "from" in items[0]


FORMATS: dict[str, Format] = {
    "preference": Format(
        lambda r: r.has("chosen") and r.has("rejected"), _pair, "`chosen`, `rejected`",
        "DPO's pairs: refused, as one must choose; `format=chosen` reads them",
    ),
    "sharegpt": Format(
        _from_value, _messages, '`conversations`: `[{"from", "value"}, ...]`, `system`',
        "human is the user, gpt the assistant; else as messages",
    ),
    "messages": Format(
        lambda r: r.has("messages") or r.has("conversations"), _messages,
        '`messages`: `[{"role", "content"}, ...]`, `system`',
        "the last turn of the assistant is the completion, all turns before it are the prompt; `weight` 0 is respected",
    ),
    "verl": Format(
        lambda r: r.has("prompt") and r.has("reward_model"), _verl, "`prompt`, `reward_model.ground_truth`",
        "verl's parquet; a ground truth that is no text or number needs a reward function",
    ),
    "prompt": Format(
        lambda r: r.has("prompt"), _prompt, "`prompt`, `completion`, `completions`",
        "TRL's prompt and completion (text or turns), or prompts alone; a text is the whole prompt",
    ),
    "alpaca": Format(
        lambda r: r.has("instruction"), _alpaca, "`instruction`, `input`, `output`, `system`, `history`",
        "instruction and input are one turn of the user",
    ),
    "question": Format(
        lambda r: r.has("question") or r.has("query"), _question, "`question`, `answer`, `response`, `choices`",
        "`answer` is the right answer, and the completion where there is no `response`; gsm8k's `####` is understood",
    ),
    "problem": Format(
        lambda r: r.has("problem"), _problem, "`problem`, `solution`, `answer`",
        "the right answer may be in the solution's last box",
    ),
    "chosen": Format(
        lambda r: False, _chosen, "`chosen`, `prompt`", "of a preference pair, only the better one; never recognised"
    ),
}  # fmt: skip


def recognise(row: Row) -> str:
    """The name of the row's format. UserError: none fits."""
    for name, known in FORMATS.items():
        if known.fits(row):
            return name
    if row.has("text"):
        raise row.refuse(
            "text", "is one text: a row needs `prompt` or `messages`, so that it is known where the prompt ends"
        )
    wanted = "`messages`, `conversations`, `prompt`, `instruction`, `question` or `problem`"
    hint = f"is missing: a row needs {wanted}, and this one has {row.fields() or 'no fields'}; rename=old:new renames"
    raise row.refuse("prompt", hint)


def renaming(text: str) -> dict[str, str]:
    """Field of the file -> field of a format, of `old:new||old:new`. UserError: it cannot be read."""
    pairs = [piece.split(":") for piece in text.split("||") if piece]
    if any(len(pair) != 2 or not all(part.strip() for part in pair) for pair in pairs):
        raise UserError("task.rename", text, "write old:new, several separated by ||")
    return {old.strip(): new.strip() for old, new in pairs}
