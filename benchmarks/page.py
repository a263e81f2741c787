"""The page of results from the kept records."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.plan import SECTIONS
from benchmarks.turns import ratios, spread

Record = Mapping[str, Any]
HEAD = """# How fast is Understudy?

Written by `make bench`; edit nothing here. Contenders take turns in one process, and the order turns around each time.
A ratio is the peer's seconds per completion token over Understudy's in the same repeat: above 1, Understudy is faster.
Ranges are the median with minimum and maximum over the repeats. All weights are random; lengths are set by a bias of
the end token that all contenders share, so no text matters. Everything is float32.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _compared(records: Sequence[Record], peers: Sequence[str]) -> str:
    rows = []
    for r in records:
        seconds = r["result"]["seconds"]
        own = statistics.median(s / t for s, t in zip(seconds["understudy"], r["result"]["tokens"]["understudy"]))
        cells = [spread(ratios(r["result"], p)) if p in seconds else "" for p in peers]
        rows.append([*r["name"].split("; "), f"{1 / own:,.0f}", *cells])
    return rows and _table_of(rows, peers)


def _table_of(rows: Sequence[Sequence[str]], peers: Sequence[str]) -> str:
    first = ["model", "kind", "rows x tokens"][-(len(rows[0]) - 1 - len(peers)) :]
    return table([*first, "tokens per second", *(f"times as fast as {p}" for p in peers)], rows)


def rollouts(records: Sequence[Record]) -> str:
    caches = sorted({r["result"]["cache"] for r in records})
    return (
        "## Rollouts against `generate`\n\n"
        "Completions of the same prompts by the same model. *full*: no row ends before the last token, prompts of 16 "
        "tokens; *ends*: lengths are geometric with half the room as their mean, and a token after an end does not "
        "count; *groups*: 8 samples per prompt of 256 tokens. `generate` samples from the plain softmax (do_sample, "
        f"top_k=0) and returns no log-probs; it has the cache that is faster here ({', '.join(caches)}). Understudy "
        "also returns the log-prob of each token and the text. At full length and many rows both are bound by the same "
        "matrix products, so little can be gained; what is gained comes from fewer small operations, from rows that "
        "leave, from prompts that are computed and read once per group, and from a draw of one pass over the "
        "logits.\n\n" + _compared(records, ["generate"])
    )


def opd(records: Sequence[Record]) -> str:
    limits = []
    for r in records:
        if flops := r["result"].get("flops"):
            limit = flops / (r["machine"]["gflops"] * 1e9)
            shares = [
                f"{limit / statistics.median(times):.0%} {name}" for name, times in r["result"]["seconds"].items()
            ]
            limits.append(f"- {r['name']}: {limit:.3f} s at the rate of the matrix product; {', '.join(shares)}")
    return (
        "## A whole update of on-policy distillation\n\n"
        "Sampling, scoring by the expert, KL(student || expert) over the whole vocabulary, backward pass, clipping and "
        "AdamW; a student of 1M and an expert of 4M weights. TRL's trainers run their own loop, one step per turn, "
        "with their default (fused) AdamW. *by hand* is `generate`, two forward passes, the divergence and a step. "
        "*full*: prompts of 16 tokens; *ends*: prompts of 256 tokens, 4 samples each, geometric lengths. At full "
        "length all contenders do the same products, most of the time of each; where the rest goes is in the section "
        "on shares of the peak. With groups, Understudy computes each prompt once, in sampling, scoring and "
        "learning.\n\n"
        + _compared(records, ["DistillationTrainer", "GKDTrainer", "by hand"])
        + ("\nShare of the physical limit, that is FLOPs of the update over seconds and peak:\n\n" if limits else "")
        + "\n".join(limits)
        + "\n"
    )


def others(records: Sequence[Record]) -> str:
    return (
        "## SFT and GRPO updates\n\n"
        "The 1M student, prompts of 16 tokens. *sft*: labels and one step on given completions; *grpo*: sampling, "
        "rewards, advantages and one step.\n\n" + _compared(records, ["SFTTrainer", "GRPOTrainer"])
    )


def memory(records: Sequence[Record]) -> str:
    rows = []
    for r in records:
        m = r["result"]
        extra = m["peak"] - m["loaded"]
        rows.append(
            [
                *r["name"].split("; "), _mb(m["weights"]), _mb(m["optimizer"]), _mb(m["loaded"]), _mb(m["peak"]),
                _mb(extra), f"{extra / m['weights']:.2f}",
            ]
        )  # fmt: skip
    return (
        "## Peak memory\n\n"
        "One update of 64-token completions in a fresh process, student and expert of 2 layers and widths 32 and 64; "
        "MB of resident memory. *loaded*: with all imports and both models; *more*: the peak (ru_maxrss) above that, "
        "which includes the student's gradients and AdamW's two moments. With the C library's default allocator, which "
        "keeps freed blocks: [what the tensors need](../recipes.md#the-memory-formula-measured) is less, and does not "
        "grow with the update.\n\n"
        + table(
            ["method", "vocabulary", "prompts", "micro-batch", "both models", "gradients and moments", "loaded",
             "peak", "more", "more / both models"], rows,
        )
    )  # fmt: skip


def _mb(size: float) -> str:
    return f"{size / 1e6:,.0f}"


def shares(records: Sequence[Record]) -> str:
    rows = []
    for r in records:
        s, flops = r["result"]["seconds"], r["result"]["flops"]
        learn = [both - score for both, score in zip(s["score and learn"], s["score"])]
        for name, times in (("sampling", s["sample"]), ("scoring", s["score"]), ("learning", learn)):
            work = flops[{"sampling": "sample", "scoring": "score", "learning": "learn"}[name]]
            rate = [work / t / (r["machine"]["gflops"] * 1e9) for t in times]
            rows.append([r["name"], name, f"{statistics.median(times):.3f}", f"{work / 1e9:.1f}", _percent(rate)])
    return (
        "## Share of the machine's own peak\n\n"
        "One `opd_full` update: FLOPs by the usual formula (2 per weight and token, and attention; three times that to "
        "learn) over seconds, as a share of the rate of a float32 product of 1024 x 1024 matrices in the same run. "
        "Learning is the update less the scoring.\n\n" + table(["update", "part", "seconds", "GFLOP", "share"], rows)
    )


def _percent(values: Sequence[float]) -> str:
    return spread([100 * v for v in values], "{:.0f}%")


def diagnosis(records: Sequence[Record]) -> str:
    values = records[-1]["result"]["cost_share"]
    return (
        "## Cost of a diagnosis\n\n"
        f"FLOPs as a share of both trainings, over the {len(values)} diagnoses in calibration.json: "
        f"{_percent(values)}. The cost of `auto`'s decisions is not measured yet: the command does not exist.\n"
    )


def scaling(records: Sequence[Record]) -> str:
    what = {
        "compare": "`compare`, sft and opd_full, one seed per worker: seconds in all",
        "fsdp": "FSDP2 over gloo, grpo with 32 rows of 48 tokens per process: seconds per update",
    }
    rows = []
    for r in records:
        s = r["result"]["seconds"]
        kept = [one / two for one, two in zip(s["1"], s["2"])]
        rows.append([what[r["name"]], *(f"{statistics.median(s[n]):.2f}" for n in ("1", "2")), _percent(kept)])
    return (
        "## Weak scaling\n\n"
        "The same work per process; efficiency is the time of one process over the time of two. One thread each; the "
        "model has 1M weights, so the messages of FSDP2 weigh more than they would beside a large one.\n\n"
        + table(["", "1 process", "2 processes", "efficiency"], rows)
    )


WRITERS: Mapping[str, Callable[[Sequence[Record]], str]] = {
    f.__name__: f for f in (rollouts, opd, others, memory, shares, diagnosis, scaling)
}


def latest(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Per section the last record of each name, in the order in which they first came."""
    found: dict[tuple[str, str], Record] = {}
    for r in records:
        found[r["section"], r["name"]] = r
    return {s: [r for (section, _), r in found.items() if section == s] for s in SECTIONS}


def page(records: Sequence[Record]) -> str:
    """The whole page; sections without a record are left out."""
    sections = latest(records)
    used = [r for part in sections.values() for r in part]
    if not used:
        return HEAD
    about = used[-1]["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    gflops = spread([r["machine"]["gflops"] for r in used], "{:.0f}")
    machine = (
        f"\nMachine: {about['processor']}, {about['cores']} cores, {about['threads']} thread per process, "
        f"{gflops} GFLOPS in float32 products of 1024 x 1024 matrices. {versions}. "
        f"Revisions measured: {', '.join(sorted({r['revision'] for r in used}))}.\n"
    )
    parts = [WRITERS[name](part) for name, part in sections.items() if part]
    return HEAD + machine + "\n" + "\n".join(parts)
