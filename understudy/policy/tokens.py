"""Prompts and continuations as token ids: chat templates, at most one BOS, and a check that no text was lost."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from understudy.errors import UserError
from understudy.policy.bounded import TooMuch, bounded
from understudy.types import Prompt

OTHER_ENDS = (
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>", "<|end|>", "<end_of_turn>", "<eos>",
    "<|return|>", "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>", "[EOS]",
)  # fmt: skip
"""How the usual models spell the end of a turn or of a text."""
_OPENED = re.compile(r"(<[A-Za-z][\w:-]{0,40}>|\[THINK\]|◁think▷|<\|[\w:-]{1,40}\|>)(\s*)$")


def rendered(tokenizer: Any, prompt: Prompt, name: str) -> str:
    """What the model reads, as text: the prompt's own, or its turns in the chat template with a generation prompt."""
    if not prompt.messages:
        return prompt.text
    if not getattr(tokenizer, "chat_template", None):
        raise UserError("task.template", "chat", f"the tokenizer of {name} has no chat template: use template=plain")
    turns = [{"role": role, "content": content} for role, content in prompt.messages]
    try:
        text = bounded(
            tokenizer.chat_template,
            lambda: tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True),
        )
    except TooMuch as error:
        hint = f"the chat template of {name} {error} for prompt {prompt.key}: it is damaged, or meant to"
        raise UserError("task.template", "chat", hint) from None
    except Exception as error:  # a template can raise any error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = f"the chat template of {name} refuses prompt {prompt.key} ({reason}): "
        raise UserError("task.template", "chat", hint + "no system prompt? user and assistant in turn?") from None
    return text + prompt.prefill


def end_ids(ends: Any, tokenizer: Any, name: str, rows: int = 0, field: str = "student") -> tuple[int, ...]:
    """The ids that end a completion: `ends` of the generation configuration, else the tokenizer's.

    rows: tokens that the model knows; 0 = not known. An id without a row never ends anything and is left out.
    UserError: none is left.
    """
    if ends is None or ends == []:  # 0 is a token id like any other
        ends = tokenizer.eos_token_id
    if ends is None:
        raise UserError(field, name, "has no end token: set eos_token in its tokenizer")
    found = tuple(sorted({ends} if isinstance(ends, int) else set(ends)))
    known = tuple(i for i in found if i >= 0 and (not rows or i < rows))
    if not known:
        hint = f"ends completions with token {', '.join(map(str, found))}, and it has {rows} rows: set eos_token_id in "
        raise UserError(field, name, hint + "its generation_config.json to a token of the model")
    return known


def encoded(tokenizer: Any, prompts: Sequence[Prompt], name: str) -> list[Prompt]:
    """The prompts with their ids, and with the tag that each has opened. UserError: as encode_all."""
    texts = [rendered(tokenizer, p, name) for p in prompts]
    return [
        p.encoded(ids, opened_tag(text)) for p, text, ids in zip(prompts, texts, _ids(tokenizer, prompts, texts, name))
    ]  # fmt: skip


def encode_all(tokenizer: Any, prompts: Sequence[Prompt], name: str) -> list[tuple[int, ...]]:
    """The prompts' ids. A chat template writes its own special tokens; plain text gets the tokenizer's.

    UserError: an empty prompt, or text that the tokenizer cannot write.
    """
    return _ids(tokenizer, prompts, [rendered(tokenizer, p, name) for p in prompts], name)


def _ids(tokenizer: Any, prompts: Sequence[Prompt], texts: Sequence[str], name: str) -> list[tuple[int, ...]]:
    out: list[tuple[int, ...]] = [()] * len(prompts)
    for chat in (False, True):
        rows = [i for i, p in enumerate(prompts) if bool(p.messages) == chat]
        if rows:
            encoded = tokenizer([texts[i] for i in rows], add_special_tokens=not chat, padding=False)["input_ids"]
            for i, ids in zip(rows, encoded):
                out[i] = _tidy(tokenizer, ids, texts[i])
    bos = tokenizer.bos_token_id
    for p, ids in zip(prompts, out):
        if not ids or ids == (bos,):
            raise UserError("prompt", p.key, "encodes to no tokens: give it some text")
    lists = [list(ids) for ids in out]
    back = tokenizer.batch_decode(lists, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for p, text, again in zip(prompts, texts, back):
        _check_round_trip(tokenizer, text, again, p, name)
    return out


def at_most(tokenizer: Any, prompts: Sequence[Prompt], name: str) -> list[int]:
    """No prompt has more tokens than this: the bytes of its text, and per turn what the chat template adds."""
    added = 16
    if prompts and prompts[0].messages:
        first = prompts[0]
        written = len(rendered(tokenizer, first, name).encode("utf-8", "replace"))
        added = max(16, written - sum(len(content.encode("utf-8", "replace")) for _, content in first.messages))
    out = []
    for p in prompts:
        texts = [content for _, content in p.messages] + [p.prefill] if p.messages else [p.text]
        out.append(sum(len(t.encode("utf-8", "replace")) for t in texts) + added * max(1, len(p.messages)))
    return out


def opened_tag(text: str) -> str:
    """The name of the tag that `text` opens as the last thing in it (`<think>`, `[THINK]`); "" = none."""
    opened = _OPENED.search(text[-100:])
    return opened[1].strip("<>[]|◁▷").rpartition(":")[2].casefold() if opened else ""


def without_opening(before: str, text: str) -> str:
    """`text` without the tag that it opens where the prompt `before`, or its template, has just opened it."""
    opened = _OPENED.search(before[-100:])
    if opened is None or not text.lstrip().startswith(opened[1]):
        return text
    return text.lstrip().removeprefix(opened[1]).removeprefix(opened[2])


def without_end(tokenizer: Any, ends: Sequence[int], text: str) -> tuple[str, int | None]:
    """(`text` without end tokens that are spelled out at its end, the first of these; None: it has none of `ends`).

    The usual end tokens of other models (OTHER_ENDS) are left out too: to this tokenizer they are plain words.
    """
    names: dict[str, int | None] = dict.fromkeys(OTHER_ENDS)
    names |= {str(tokenizer.decode([i], skip_special_tokens=False)): i for i in ends}
    names = {name: i for name, i in names.items() if name.strip()}
    found = None
    while True:
        bare = text.rstrip()
        name = max((n for n in names if bare.endswith(n)), key=len, default="")
        if not name:
            return text, found
        text, found = bare.removesuffix(name), names[name]


def special_ends(tokenizer: Any, ends: Sequence[int]) -> frozenset[int]:
    """The tokens around a completion that are no part of its text: special ones that end it, begin a text, or pad it.

    A stop text of one token (a line break) ends a completion and is text.
    """
    around = {*ends, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {i for i in around if i in added and added[i].special}
    return frozenset(special | around & set(tokenizer.all_special_ids))


def shown(tokenizer: Any, ends: Sequence[int], rows: Sequence[Sequence[int]]) -> list[str]:
    """The texts of completions, without the tokens that end them.

    Other special tokens are text that the model wrote: the tags of a thought say what is not to be graded.
    """
    around = special_ends(tokenizer, ends)
    kept = [[i for i in ids if i not in around] for ids in rows]
    return list(tokenizer.batch_decode(kept, skip_special_tokens=False))


def encode(tokenizer: Any, prompt: Prompt, name: str) -> tuple[int, ...]:
    return encode_all(tokenizer, [prompt], name)[0]


def _tidy(tokenizer: Any, ids: Sequence[int], text: str) -> tuple[int, ...]:
    """Without a second BOS (one in the text, one from the tokenizer) and without an end token that was added."""
    ids = list(ids)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    while len(ids) > 1 and bos is not None and ids[0] == ids[1] == bos:
        del ids[0]
    if ids and eos is not None and ids[-1] == eos and not text.endswith(str(tokenizer.eos_token)):
        del ids[-1]
    return tuple(ids)


def check_rows(tokenizer: Any, ids: Sequence[int], rows: int, prompt: Prompt, name: str) -> None:
    """UserError for a token of the prompt, or of text after it, that the tokenizer has and the model does not."""
    if (top := max(ids, default=0)) >= rows:
        hint = f"has the token {tokenizer.convert_ids_to_tokens(top)!r} (id {top}), and {name} has {rows} rows: "
        hint += "its tokenizer has tokens that were added without resize_token_embeddings"
        raise UserError("prompt", prompt.key, hint)


def continuation(tokenizer: Any, prompt: Prompt, text: str, name: str) -> tuple[int, ...]:
    """The ids that `text` has right after the prompt.

    Encoded together with the prompt where the prompt's ids stay the same (so that a leading space is right in every
    tokenizer), else alone. Special tokens spelled out in `text` are text where the tokenizer allows that.
    """
    before = rendered(tokenizer, prompt, name)
    ids = prompt.ids or encode(tokenizer, prompt, name)
    together = tokenizer(before + text, add_special_tokens=not prompt.messages)["input_ids"]
    whole = _tidy(tokenizer, together, before + text)
    if whole[: len(ids)] == ids and len(whole) > len(ids):
        return whole[len(ids) :]
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def one_token(tokenizer: Any, text: str) -> int | None:
    """The id of a text that is one token (a special one too), else None."""
    special = tokenizer.get_vocab().get(text)
    if special is not None:
        return int(special)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return int(ids[0]) if len(ids) == 1 and tokenizer.decode(ids) == text else None


def _check_round_trip(tokenizer: Any, text: str, again: str, prompt: Prompt, name: str) -> None:
    """UserError unless the ids decode to the text again, up to spacing, case and Unicode spelling."""
    if text == again:
        return
    bos = _essence(tokenizer.bos_token or "")
    back, want = _essence(again).removeprefix(bos), _essence(text).removeprefix(bos)
    if back == want:
        return
    at = next((i for i, (a, b) in enumerate(zip(back, want)) if a != b), min(len(back), len(want)))
    hint = (
        f"does not survive the tokenizer of {name}: {want[at : at + 20]!r} becomes {back[at : at + 20]!r}; use a "
        "tokenizer that can write it, or change the prompt"
    )
    raise UserError("prompt", prompt.key, hint)


def _essence(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
