"""A byte-level BPE tokenizer for new models: any text round-trips, each digit is one token.

The split into words is Qwen2's (which splits digits), because transformers 5 rebuilds the tokenizer of a
qwen2 folder with that class whatever its files say; llama and qwen3 folders keep ours. Two facts of that
class remain: it composes text to NFC first, so under qwen2 a text round-trips up to NFC (ASCII is never
touched); and it adds its own special tokens where ours are missing, so `unk_token` is stated to be none.
"""

from __future__ import annotations

from functools import cache
from typing import Any

PAD, END = "<|pad|>", "<|end|>"
OK, NO = " ok", " no"

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_tokenizer(pairs: bool = False) -> Any:
    """PreTrainedTokenizerFast of 262 tokens: pad, end, 256 bytes, and the merges of ` ok` and ` no`.

    pairs: 100 more, two digits each: another family. Numbers are then split into pairs from the left.
    Special tokens spelled out in a text stay text (`split_special_tokens`): no prompt can contain an end.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    merges = [("Ġ", "o"), ("Ġo", "k"), ("Ġ", "n"), ("Ġn", "o")]
    merges += [(a, b) for a in "0123456789" for b in "0123456789"] if pairs else []
    pieces = [PAD, END, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    backend = Tokenizer(BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    split = _WORDS.replace(r"|\p{N}|", r"|\p{N}{1,2}|") if pairs else _WORDS
    words = pre_tokenizers.Split(Regex(split), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, unk_token=None, bos_token=None,
        split_special_tokens=True, clean_up_tokenization_spaces=False, padding_side="left",
    )  # fmt: skip


@cache
def shared_tokenizer(pairs: bool = False) -> Any:
    """The one tokenizer of all generated tasks in this process (of those with pairs of digits: another)."""
    return make_tokenizer(pairs)
