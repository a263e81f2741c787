"""docs/algorithms.md: the table of methods, its rules and the defaults.

Nothing is repeated by hand: even the examples of refusals are found by a search over configurations.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from tools.markdown import table as markdown_table
from understudy.cli.options import field_docs
from understudy.config import Resolved, TrainConfig, resolve, to_dict
from understudy.errors import UserError
from understudy.methods import table
from understudy.methods.cells import CELLS
from understudy.methods.table import RULES, TABLE, Row

QUESTIONS = {
    "behavior": "who acts",
    "target": "what each position is pulled toward",
    "weight": "how strongly",
    "replay": "how fresh the data is",
    "importance": "the ratio that corrects for the behavior policy",
    "divergence": "for a distribution target",
    "signal": "whose log-probs target and weight read",
}
KNOBS = (
    "extrapolation", "beta", "gamma", "clip", "importance_cap", "advantage_norm", "expert_coef", "expert_anneal",
    "advantage_coef", "sft_alpha", "student_share", "expert_share", "round_updates", "top_k", "top_k_of",
    "token_match", "reduction", "samples_per_prompt", "updates_per_rollout", "prompt_pool", "temperature", "top_p",
)  # fmt: skip
"""Fields beside the cells that change what a method computes."""

_PLAIN = {name: ("expert",) if name == "signal" else () for name in CELLS}
"""Values that a row's list of cells leaves out."""

_PROBES: dict[str, tuple[Any, ...]] = {
    **{name: tuple(values) for name, values in CELLS.items()},
    "samples_per_prompt": (1,), "updates_per_rollout": (2,), "clip": (0.2,), "gamma": (1.0, 2.0), "beta": (1.0,),
    "expert_coef": (0.0,), "advantage_coef": (0.0,), "sft_alpha": (0.25,),
    "top_k": (16,), "temperature": (0.7,), "top_p": (0.9,),
}  # fmt: skip
"""Values tried, alone and in pairs, to find an example that each rule refuses."""


def page(text: str = "") -> str:
    """The whole of docs/algorithms.md, whatever it says now."""
    parts = [_INTRO, _overview(), _NOTATION, _cells(), _KERNELS]
    parts += ["## The rows, one by one\n", *(_row(row) for row in TABLE.values())]
    parts += [_knobs(), _rules(), _IDENTITIES, _OWN]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


_INTRO = """
# The algorithms

Written by `make docs` from `understudy/methods/table.py`; edit that file, not this page.

Every training method is one row of one table. There is one training loop (`understudy/training/train.py`); it reads the
cells of a row and knows no method's name. To run a row: `understudy train --method NAME ...`. To change a cell of
it, add the option of the same name: `--method opd --gamma 1`. A combination that makes no sense is refused before
anything is loaded, with the reason ([below](#what-is-refused-and-why)).

## The table
"""

_NOTATION = """
## Notation

- `expert(. | y_<t)`, `student(. | y_<t)`: probabilities of the next token, given the prompt (left out here) and
  the completion so far. The expert is also called teacher; the base is the student before training.
- `sum_t` runs over the tokens of a completion, its end token included if the policy sampled one. The equations
  show sums; the loss is reduced as `reduction` says, by default to the mean over all tokens of an update.
- `KL(p || q) = sum_v p(v) log(p(v) / q(v))`, in nats. In code it is `divergences.kl`, with p first, and a name such as
  `kl_student_expert` gives the order of the two arguments.
- `E_{y ~ p}`: over prompts of the training stream and completions sampled from `p`. No gradient flows through the
  sampling, nor through any weight.
- `r(y)`: the verifier's reward, 0 or 1.
"""

_KERNELS = """
## The two loss kernels

Both are in `understudy/methods/losses.py` and give one loss per token:

- `surrogate`, for a token target: `-weight log student(target)`; with the token ratio
  `-weight student(token) / behavior(token)`, as PPO clips it to `1 - clip .. 1 + clip` where `clip` is set.
- `divergence`, for a distribution target: `weight` times the divergence of the two next-token distributions. With
  weight `expert_reward` the surrogate of the acted token, weighed by the reward alone, is added.

One `reduction` makes a scalar of them:

- `token_mean`: the sum over all completion tokens of the update, divided by their number;
- `sequence_mean`: the mean over completions of each one's token mean, which weighs states by 1 / length;
- `sequence_sum`: the mean over completions of each one's token sum.
"""

_REFUSED = """
## What is refused, and why

Before anything is loaded, in one line, with exit status 2:

```
error: clip: 0.2: not legal for method sft: there is no token ratio to clip in this row: drop --clip
```

The field that the line names, an example (what follows `understudy train`), and the reason:
"""

_IDENTITIES = """
## What holds exactly

Of the gradients, in expectation over the sampling and at the same weights. Each is a test that enumerates all
completions of a small vocabulary in float64, through the losses that training uses
(`tests/identities/test_gradients.py`).

- opd at gamma 0 is opd_full; it is not the gradient of KL(student || expert) over whole completions.
- opd at gamma 1 is the gradient of KL(student || expert) over whole completions.
- exopd at gamma 0 is opd_full with signal extrapolated; at extrapolation 1 they are opd and opd_full, at 0 they stay at
  the base. At gamma 1 exopd is the gradient of KL(student || target) over whole completions, where the target is
  normalised once per completion; normalised at every token it is another one.
- sft is word_kd, and both are the gradient of KL(expert || student) over whole completions.
- base_opd without its cap is opd_full, from distributions or, with the token ratio, from the base's tokens; without
  the ratio it is not.
- With an expert of another family, opd at gamma 1 is the gradient of KL(student || expert) over whole completions; the
  expert's probability is that of its usual tokenization of the text ([experts.md](experts.md),
  `tests/identities/test_foreign_experts.py`).
- Group advantages that are not divided by a deviation, in groups of G: 1 - 1/G of the gradient of accuracy.
- opd_reward at gamma 0 and opd_full_reward are both expert_coef times opd_full plus advantage_coef times grpo (without
  its deviation); with advantage_coef 0 they are opd and opd_full, with expert_coef 0 grpo.
- gkd_reward is gkd with advantage_coef 0, and on the batches that the expert writes always.
- The first update of a round of rft is the gradient of accuracy, up to scale.
"""

_OWN = """
## A method that is not a row

It gets its own loop in its own file, never an `if` in `train.py`. How to add a row:
[CONTRIBUTING](../CONTRIBUTING.md#adding-a-row-of-the-table).
"""


def _overview() -> str:
    return markdown_table(
        ("method", "behavior", "target", "weight", "replay", "importance", "what it is"),
        (
            (f"[{r.name}](#{r.name})", r.behavior, r.target + (f": {r.divergence}" if r.divergence else ""),
             r.weight, r.replay, r.importance, r.summary)
            for r in TABLE.values()
        ),
    )  # fmt: skip


def _cells() -> str:
    parts = ["## What the cells mean"]
    for field, values in CELLS.items():
        rows = ((f"`{value}`", meaning) for value, meaning in values.items())
        parts += [f"### {field}: {QUESTIONS[field]}", markdown_table(("value", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def _row(row: Row) -> str:
    cells = ", ".join(
        f"{name} `{getattr(row, name)}`" for name in CELLS if getattr(row, name) not in ("", "none", *_PLAIN[name])
    )
    needs = sorted(table.capabilities(_resolved(row.name)))
    lines = [f"### {row.name}", "", f"{row.summary[0].upper()}{row.summary[1:]}.", "", "```", row.equation, "```", ""]
    lines += [f"- Cells: {cells}."]
    if row.defaults:
        lines.append("- Its other defaults: " + ", ".join(f"{k} {_shown(v)}" for k, v in row.defaults.items()) + ".")
    lines.append(f"- Expert's capabilities that it needs: {', '.join(needs) if needs else 'none; it needs no expert'}.")
    places = ", ".join(f"{name} [`{place}`]({_source(place)})" for name, place in row.computed.items())
    lines.append(f"- Computed in: {places}.")
    lines.append(f"- Source: {_linked(row.source)}.")
    lines.append(f"- Deviations: {_linked(row.deviations)}.")
    if changes := _legal_changes(row):
        lines.append(f"- Legal changes of one cell: {', '.join(changes)}.")
    return "\n".join(lines)


def _source(place: str) -> str:
    """The link to "FILE: FUNCTION" from a page in docs/."""
    return f"../understudy/{place.partition(':')[0]}"


def _legal_changes(row: Row) -> list[str]:
    return [
        f"`{_flag(name)} {value}`"
        for name, values in CELLS.items()
        for value in values
        if value != getattr(row, name) and isinstance(_resolution(row.name, ((name, value),)), Resolved)
    ]


def _knobs() -> str:
    docs, default = field_docs(TrainConfig), to_dict(_resolved("sft"))
    rows = ((f"`{_flag(n)}`", _shown(default[n]), docs[n].split(" Default:")[0]) for n in KNOBS)
    return (
        "## What else is visible\n\n"
        "Elsewhere these hide in the code; here each is a field. A row may have its own default (above).\n\n"
        + markdown_table(("option", "default", "meaning"), rows)
    )


def _rules() -> str:
    rows = ((rule.field, f"`{example}`", rule.reason) for rule, example in zip(RULES, refusals()))
    return f"{_REFUSED.strip()}\n\n{markdown_table(('field', 'for example', 'reason'), rows)}"


def refusals() -> list[str]:
    """Per rule the options of a run that it refuses, the shortest there are; "" where none was found."""
    found: dict[int, str] = {}
    for method, changes in _candidates():
        result = _resolution(method, changes)
        if isinstance(result, Resolved):
            continue
        for i, rule in enumerate(RULES):
            if i not in found and result.field == rule.field and result.hint.endswith(rule.reason):
                example = " ".join(f"{_flag(name)} {_shown(value)}" for name, value in changes)
                found[i] = f"--method {method} {example}"
        if len(found) == len(RULES):
            break
    return [found.get(i, "") for i in range(len(RULES))]


def _candidates() -> Iterator[tuple[str, tuple[tuple[str, Any], ...]]]:
    single = [(name, value) for name, values in _PROBES.items() for value in values]
    for method in TABLE:
        for one in single:
            yield method, (one,)
    for method in TABLE:
        for pair in itertools.combinations(single, 2):
            if pair[0][0] != pair[1][0]:
                yield method, pair


def _resolution(method: str, changes: Sequence[tuple[str, Any]]) -> Resolved | UserError:
    try:
        return resolve(TrainConfig(method=method, student="scratch", expert="solver", **dict(changes)))
    except UserError as error:
        return error


@cache
def _resolved(method: str) -> Resolved:
    return resolve(TrainConfig(method=method, student="scratch", expert="solver"))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _linked(text: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)
