"""What `tools.compatibility` tries on one architecture: a tiny random model, as a user's model folder."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.tiny_models import make
from understudy.errors import UserError
from understudy.policy import Policy, decoding, load_policy
from understudy.policy.sampling import draw
from understudy.tasks import load_task
from understudy.types import Prompt, Rollout

CLOSE = 2e-4  # of a log-prob in float32, relative to the spread of the logits
ROOM = 14  # new tokens of a completion


def examine(kind: str, folder: Path) -> dict[str, str]:
    """Column -> what was found, for the architecture of this model type; the model is written to `folder`."""
    torch.manual_seed(0)
    try:
        model = make(kind, load_task("countdown").tokenizer(), folder)
    except Exception as error:  # transformers, and what an architecture needs, raise anything
        return {"model": "", "loads": f"not made: {_first_line(error)}"}
    out = {"model": type(model).__name__}
    try:
        policy = load_policy(str(folder), "student", device="cpu")
    except UserError as error:
        return out | {"loads": f"refused: {_hint(error, folder)}"}
    except Exception as error:  # what should have been a UserError
        return out | {"loads": f"FAILS: {type(error).__name__}: {_first_line(error)}"}
    out["loads"] = "yes"
    for name, check in CHECKS.items():
        out[name] = _tried(check, policy, folder)
    return out


def _tried(check: Callable[[Policy, Path], str], policy: Policy, folder: Path) -> str:
    try:
        return check(policy, folder)
    except UserError as error:
        return f"refused: {_hint(error, folder)}"
    except Exception as error:
        return f"FAILS: {type(error).__name__}: {_first_line(error)}"


def _hint(error: UserError, folder: Path) -> str:
    return error.hint.replace(str(folder), "the model")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


# ---------------------------------------------------------------- inputs


def _prompts(policy: Policy) -> list[Prompt]:
    lengths = (3, 20, 9, 20)
    ids = [tuple((7 * j + i) % 60 + 3 for j in range(n)) for i, n in enumerate(lengths)]
    return [Prompt(f"p{i}", "", ids=x) for i, x in enumerate(ids)]


def _rollouts(policy: Policy) -> list[Rollout]:
    """Completions of several lengths; two of one prompt, which may share a row."""
    rows = []
    for i, prompt in enumerate(_prompts(policy)):
        for s in range(2):
            ids = tuple((11 * j + 5 * s + i) % 60 + 3 for j in range(3 + 2 * i + s))
            rows.append(Rollout(prompt, s, ids, (0.0,) * len(ids), False, "", "student"))
    return rows


@torch.no_grad()
def _alone(policy: Policy, r: Rollout) -> tuple[Tensor, float]:
    """(log-probs of its tokens by one unpadded pass without a cache, spread of the logits)."""
    with policy.inference():
        logits = policy.model(input_ids=torch.tensor([r.prompt.ids + r.ids]), use_cache=False).logits[0].float()
    logits = logits[len(r.prompt.ids) - 1 : -1]
    logp = logits.double().log_softmax(-1).gather(-1, torch.tensor(r.ids)[:, None])[:, 0]
    return logp, float(logits.std(-1).mean())


def _gap(policy: Policy, rollouts: Sequence[Rollout], values: Sequence[Any]) -> float:
    """Largest difference from single passes, in units of the logits' spread."""
    worst = 0.0
    for r, value in zip(rollouts, values):
        want, spread = _alone(policy, r)
        gap = (torch.as_tensor(value).double() - want).abs().max()
        worst = max(worst, float(gap) / max(spread, 1e-6), float("inf") if gap.isnan() else 0.0)
    return worst


# ---------------------------------------------------------------- checks


def scoring(policy: Policy, folder: Path) -> str:
    rollouts = _rollouts(policy)
    gap = _gap(policy, rollouts, policy.score(rollouts))
    return "exact" if gap < CLOSE else f"WRONG: {gap:.1e} of the logits' spread"


def sampling(policy: Policy, folder: Path) -> str:
    ends = tuple(range(1, policy.vocabulary, 6))
    kind = decoding.kind(policy.model, policy.pad_id, policy.inference)
    rollouts = draw(policy.start, policy.decode, ends, _prompts(policy), 3, 1, ROOM, "student")
    if len({len(r.ids) for r in rollouts}) < 2:
        return "FAILS: no row left before another"
    gap = _gap(policy, rollouts, [r.behavior_logp for r in rollouts])
    if gap >= CLOSE:
        return f"WRONG ({kind}): {gap:.1e} of the logits' spread"
    return "slower" if kind == "whole" else "exact"


def resume(policy: Policy, folder: Path) -> str:
    """A checkpoint of changed weights gives the same bits in a model that was loaded from the first ones."""
    checkpoint = _checkpoint(policy, folder)
    other = load_policy(str(folder), "student", device="cpu")
    other.load_weights(checkpoint)
    return _same(policy.model.state_dict(), other.model.state_dict())


def reload(policy: Policy, folder: Path) -> str:
    other = load_policy(str(_checkpoint(policy, folder)), "student", device="cpu")
    return _same(policy.model.state_dict(), other.model.state_dict())


def _checkpoint(policy: Policy, folder: Path) -> Path:
    """Where the policy is saved; at the first call its weights are changed before."""
    path = folder / "checkpoint"
    if not path.exists():
        torch.manual_seed(2)
        with torch.no_grad():
            for p in policy.trained().values():
                p.add_(0.05 * torch.randn_like(p))
        path.mkdir()
        policy.save(path)
    return path


def merge(policy: Policy, folder: Path) -> str:
    """By --lora-targets all-linear; where that is refused, by the layers that the refusal names."""
    targets, first = "all-linear", ""
    while True:
        try:
            found = _merged(policy, folder, targets)
            return f"partly: {first}" if first and found == "exact" else found
        except UserError as error:
            _, mark, names = error.hint.rpartition("name some of ")
            names = names.replace(" ", "")
            first = first or _hint(error, folder)
            if not mark or names == targets:
                return f"refused: {first}"
            targets = names


def _merged(policy: Policy, folder: Path, targets: str) -> str:
    adapted = load_policy(str(folder), "student", device="cpu")
    adapted.adapt(4, 8.0, 0.0, targets, 0)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in adapted.trained().values():
            p.add_(0.05 * torch.randn_like(p))
    rollouts = _rollouts(adapted)
    scores = adapted.score(rollouts)
    before = adapted.reference().score(rollouts)
    moved = max(float((a - b).abs().max()) for a, b in zip(scores, before))
    if moved < 1e-3:
        return "FAILS: the adapter changes nothing"
    reference = copy.deepcopy(adapted.adapter.peft_model).merge_and_unload().state_dict()  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as name:
        adapted.save(Path(name))
        final = load_policy(name, "student", device="cpu")
    got = final.model.state_dict()
    if set(got) != set(reference):
        return f"WRONG: {min(set(got) ^ set(reference))} is in one of them only"
    gap = max(float((got[n].double() - reference[n].double()).abs().max()) for n in got if got[n].numel())
    if not gap < 1e-5:
        return f"WRONG: weights differ from peft's by {gap:.1e}"
    _, spread = _alone(policy, rollouts[0])
    gap = max(float((a - b).abs().max()) for a, b in zip(scores, final.score(rollouts))) / spread
    return "exact" if gap < CLOSE * 5 else f"WRONG: merged scores differ by {gap:.1e}"


CHECKS: dict[str, Callable[[Policy, Path], str]] = {
    "scoring": scoring, "sampling": sampling, "merge": merge, "resume": resume, "reload": reload
}  # fmt: skip


def _same(want: dict[str, Tensor], got: dict[str, Tensor]) -> str:
    odd = sorted(set(want) ^ set(got))
    if odd:
        return f"WRONG: {odd[0]} is in one of them only"
    odd = [n for n in want if not torch.equal(want[n], got[n])]
    if odd and all(_padding_alone(want[n], got[n]) for n in odd):
        return "partly: transformers zeroes the embedding of the padding token whenever it loads the model"
    return "exact" if not odd else f"WRONG: {len(odd)} tensors differ ({odd[0]})"


def _padding_alone(want: Tensor, got: Tensor) -> bool:
    """Whether they differ in one row of zeros: Youtu's loading does that."""
    rows = (want != got).flatten(1).any(1) if want.dim() > 1 and want.shape == got.shape else torch.ones(2)
    return int(rows.sum()) == 1 and not got[rows.bool()].any()
