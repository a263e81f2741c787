"""What a model reads and where its completions end, from its tokenizer and configuration: no weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import UserError
from understudy.policy import names, tokens
from understudy.policy.loading import Scratch, place_of
from understudy.policy.stored import quiet
from understudy.specs import build, parse_spec
from understudy.types import Prompt


@dataclass(frozen=True)
class Reader:
    """A model without its weights. context: longest input in tokens; 0 = not known. vocabulary: rows of its head."""

    name: str
    tokenizer: Any
    end_ids: tuple[int, ...]
    context: int
    vocabulary: int = 0

    def encode(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """As Policy.encode."""
        return tokens.encoded(self.tokenizer, prompts, self.name)

    def shown(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens too."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def load_reader(text: str, field: str, tokenizer: Any = None, trust_remote_code: bool = False) -> Reader:
    """Of a model directory, a run directory, a hub id, or `scratch:...` (the task's tokenizer). UserError: none."""
    names.refuse(text, field)
    spec = parse_spec(text, field) if text.startswith("scratch") else None
    if spec is not None and spec.name == "scratch":
        context = build(Scratch, spec.args, field).context
        return Reader(text, tokenizer, tokens.end_ids(None, tokenizer, text), context)
    place = place_of(text, field)
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig  # slow to import

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
            config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
            try:
                ends = GenerationConfig.from_pretrained(place).eos_token_id
            except OSError:  # there is no such file
                ends = getattr(config, "eos_token_id", None)
    except Exception as error:  # transformers raises many kinds here, all meaning: not a model we can load
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(field, text, f"its tokenizer cannot be loaded ({reason})") from None
    context = int(getattr(config, "max_position_embeddings", 0) or 0)
    rows = int(getattr(config.get_text_config(), "vocab_size", 0) or 0)
    ends = tokens.end_ids(ends, tokenizer, text, rows, field)
    return Reader(text, tokenizer, ends, context, max(len(tokenizer), rows))
