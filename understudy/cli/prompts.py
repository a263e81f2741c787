"""understudy prompts"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from understudy.cli import options
from understudy.evaluation.config import PromptsConfig
from understudy.terminal import console


def prompts_command(args: Sequence[str]) -> int:
    """understudy prompts"""
    config = options.parse(
        PromptsConfig,
        ["--n" if word == "-n" else word for word in args],
        "understudy prompts",
        "Prompts exactly as the model reads them: chat template, system prompt, special tokens; how many tokens, what\n"
        "ends a completion, the gold answer. Loads tokenizers, no weights.",
        epilog="examples\n"
        "  understudy prompts --student PATH_OR_HUB_ID --task data:path=q.jsonl,template=chat\n"
        "  understudy prompts --student PATH --expert PATH --task gsm8k:template=chat -n 1",
    )
    from understudy.evaluation.prompts import look  # seconds of imports, which --help does not need

    result = look(config)
    if config.json:
        print(json.dumps(result))
        return 0
    for line in _lines(result):
        console.print(visible(line), markup=False, soft_wrap=True)
    return 0


def _lines(result: dict[str, Any]) -> Iterator[str]:
    several = {f"expert {name}": model for name, model in result["experts"].items()}
    for who, model in ({name: result[name] for name in ("student", "expert")} | several).items():
        if isinstance(model, str):
            yield f"{who}: {model}"
        elif model:
            ends = ", ".join(f"{text!r} ({i})" for i, text in model["ends"].items())
            template = "a chat template" if model["template"] else "no chat template"
            context = f", context {model['context']:,}" if model["context"] else ""
            yield f"{who} {model['name']}: {model['tokens']:,} tokens, {template}{context}; completions end with {ends}"
    lengths, room = result["lengths"], result["room"]
    shortest, longest = lengths["shortest"], lengths["longest"]
    yield f"prompts of {shortest} to {longest} tokens (the first {lengths['of']}), room for {room}"
    for note in result["notes"]:
        yield f"note: {note}"
    for i, p in enumerate(result["prompts"], 1):
        yield f"\n=== {i}: {p['key']}, {p['tokens']} tokens; the completion begins at <<<"
        yield p["student"] + "<<<"
        if p.get("of"):
            yield f"--- its expert: {p['of']}"
        if p.get("expert"):
            yield f"--- as the expert's own template has it\n{p['expert']}<<<"
        if p.get("with_context"):
            yield f"--- as the expert reads it, {p['tokens_with_context']} tokens\n{p['with_context']}<<<"
        if p["trace"]:
            yield f"--- trace (an end token follows)\n{p['trace']}"
        if p["gold"] is not None:
            yield f"--- gold: {p['gold']}"


def visible(text: str) -> str:
    """Control characters as escapes, so that they do nothing to the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
