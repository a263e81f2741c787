"""An expert that finds the answer by hidden search, writes down attempts and verdicts, and scores any prefix exactly.

The process, attempt by attempt: with probability p_right draw uniformly among the right candidates, else among the wrong
ones; write it; give a verdict on what was written (` ok` or ` no`, each wrong with its own probability); after ` ok` end,
after ` no` a newline and the next attempt, or the end after the last one.

Any prefix is scored, the student's too. The next token's distribution is (1 - smoothing) structured + smoothing uniform,
and `structured` is the exact conditional of the process given what this attempt has written so far. What the process
never writes is met like this:
- an attempt that is no beginning of any candidate (a false sum, a stray token): ` no`, that is, admit it and try again;
- a newline without a verdict: the next attempt starts; after the last attempt, or after ` ok`: the end token;
- a style line that the other skipped or misspelled: go on from its place.

The machine knows the grammar and the candidates, not the task: a task hands it `candidates(prompt)`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import inf, log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy.config import Spec, build
from understudy.errors import UserError
from understudy.experts.attempts import Candidates, Grammar, Walk
from understudy.randomness import seed_from, uniforms
from understudy.types import Prompt, Rollout

MEMORY = 2048  # problems whose candidates stay ready
PLAIN = "0123456789+-*/="  # characters of a candidate that may be encoded one by one


@dataclass(frozen=True)
class SolverConfig:
    p_right: float = 0.995
    """Probability that an attempt is right; uniform among the right ones, else among the wrong ones."""
    false_ok: float = 0.0
    """Probability that a wrong attempt is called ok."""
    false_no: float = 0.0
    """Probability that a right attempt is called no."""
    repeat: bool = True
    """Whether an attempt may repeat an earlier one of the same completion."""
    smoothing: float = 1e-3
    """Share of the uniform distribution in every token's. 0: samples only, because a foreign prefix scores -inf."""
    style: str = "none"
    """none, or hash: a first line of letters that are a secret hash of the prompt, which the reward ignores."""
    style_length: int = 4
    """Letters of the style line, 1 to 8."""
    style_secret: int = 0
    """Salt of the secret hash."""
    vocabulary: int = 0
    """Size of the score vectors. 0 = the tokenizer's; a model with a padded vocabulary needs its own size."""

    def __post_init__(self) -> None:
        for field in ("p_right", "false_ok", "false_no"):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"expert.{field}", getattr(self, field), "must lie in [0, 1]")
        if not 0 <= self.smoothing < 1:
            raise UserError("expert.smoothing", self.smoothing, "must lie in [0, 1)")
        if self.style not in ("none", "hash"):
            raise UserError("expert.style", self.style, "one of none, hash")
        if not 1 <= self.style_length <= 8:
            raise UserError("expert.style_length", self.style_length, "must be 1..8")


PRESETS: dict[str, dict[str, Any]] = {
    "solver": {},
    "search": {},
    "always_ok": {"false_ok": 1.0},
    "half": {"p_right": 0.5, "false_ok": 1.0},
    "styled": {"style": "hash"},
    "mediocre": {"p_right": 0.12, "false_ok": 0.4, "false_no": 0.05, "repeat": False, "smoothing": 0.0},
    "good": {"p_right": 0.5, "false_ok": 0.02, "false_no": 0.02, "repeat": False, "smoothing": 0.0},
}
"""Named settings: search = always_right-but-honest (N9), always_ok and half never say ` no`, mediocre and good make
training traces, styled is search with a secret first line."""


class SolverExpert:
    """See the module's docstring. One instance serves any number of prompts; all of it runs on the CPU."""

    def __init__(
        self,
        config: SolverConfig,
        tokenizer: Any,
        candidates: Callable[[Prompt], Sequence[tuple[str, bool]]],
        attempts: int,
        name: str = "solver",
    ) -> None:
        self.config, self.tokenizer, self.attempts, self.name = config, tokenizer, attempts, name
        self._candidates_of = candidates
        if tokenizer.eos_token_id is None:
            raise UserError("tokenizer", tokenizer.name_or_path or "?", "has no end token: set eos_token")
        ok, no, newline = (self._single(text) for text in (" ok", " no", "\n"))
        self.grammar = Grammar(
            ok, no, newline, int(tokenizer.eos_token_id), attempts,
            config.p_right, config.false_ok, config.false_no, config.repeat,
        )  # fmt: skip
        self.vocabulary = config.vocabulary or len(tokenizer)
        if self.vocabulary < len(tokenizer):
            raise UserError("expert.vocabulary", config.vocabulary, f"the tokenizer has {len(tokenizer)} tokens")
        self.end_ids = (self.grammar.end,)
        self._keep, self._floor = 1 - config.smoothing, config.smoothing / self.vocabulary
        self._table = self._plain_table()
        self._memory: OrderedDict[tuple[tuple[str, bool], ...], Candidates] = OrderedDict()
        # a generator without smoothing gives -inf to what it would not write: never a score to train on
        self.capabilities = frozenset({"sample", "score", "distribution"} if config.smoothing else {"sample"})
        self.provenance = self._provenance()

    @classmethod
    def from_spec(
        cls,
        spec: Spec,
        tokenizer: Any,
        candidates: Callable[[Prompt], Sequence[tuple[str, bool]]],
        attempts: int,
    ) -> SolverExpert:
        if spec.name not in PRESETS:
            raise UserError("expert", spec.text, f"unknown; one of {', '.join(PRESETS)}, or a model")
        config = build(SolverConfig, {**PRESETS[spec.name], **spec.args}, "expert")
        return cls(config, tokenizer, candidates, attempts, spec.text)

    # -- the interface of an expert -----------------------------------------------------------------------------

    def start(self, prompts: Sequence[Prompt]) -> SolverSteps:
        return SolverSteps(self, [self.walk(p) for p in prompts])

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        """Draws from exactly what `distribution` says, token by token by inverse CDF."""
        out, end = [], self.grammar.end
        for prompt in prompts:
            for s in range(samples):
                u_T = uniforms(seed, prompt.key, s, max_new_tokens).tolist()
                walk, ids, logps = self.walk(prompt), [], []
                for u in u_T:
                    token, p = self._draw(*walk.next(), u)
                    ids.append(token)
                    logps.append(log(p))
                    if token == end:
                        break
                    walk.push(token)
                out.append((prompt, s, ids, logps))
        texts = self._decode([ids for _, _, ids, _ in out])
        return [
            Rollout(prompt, s, tuple(ids), tuple(logps), ids[-1] == end, text, "expert")
            for (prompt, s, ids, logps), text in zip(out, texts)
        ]

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        keep, floor, out = self._keep, self._floor, []
        for rollout in rollouts:
            walk, logps = self.walk(rollout.prompt), []
            for token in rollout.ids:
                tokens, probs = walk.next()
                p = keep * probs[tokens.index(token)] + floor if token in tokens else floor
                logps.append(log(p) if p > 0 else -inf)
                walk.push(token)
            out.append(torch.tensor(logps, dtype=torch.float32))
        return out

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        columns: list[int] = []
        values: list[float] = []
        counts: list[int] = []
        for rollout in rollouts:
            walk = self.walk(rollout.prompt)
            for token in rollout.ids:
                tokens, probs = walk.next()
                columns += tokens
                values += probs
                counts.append(len(tokens))
                walk.push(token)
        logp_NV = self._dense(columns, values, counts)
        return list(logp_NV.split([len(r.ids) for r in rollouts]))

    def entropy(self, prompt: Prompt) -> float:
        """Exact entropy (nats) of a whole completion of the process, without smoothing and without a token limit."""
        config, found = self.config, self._candidates(prompt)
        all_right, all_wrong = found.n_right, found.n - found.n_right

        @cache
        def from_attempt(k: int, right: int, wrong: int) -> float:
            """Entropy from attempt k on, with so many right and wrong candidates not yet tried."""
            if k == self.attempts:
                return 0.0
            if right + wrong == 0:  # every candidate was tried: all are open again
                right, wrong = all_right, all_wrong
            p = config.p_right if right and wrong else float(right > 0)
            total = _coin(p)
            for share, left, p_no, used in (
                (p, right, config.false_no, (1, 0)),
                (1 - p, wrong, 1 - config.false_ok, (0, 1)),
            ):
                if share > 0:
                    after = (right, wrong) if config.repeat else (right - used[0], wrong - used[1])
                    again = p_no * from_attempt(k + 1, *after) if p_no else 0.0
                    total += share * (log(left) + _coin(p_no) + again)
            return total

        return from_attempt(0, all_right, all_wrong)

    # -- inside -------------------------------------------------------------------------------------------------

    def walk(self, prompt: Prompt) -> Walk:
        """A cursor at the beginning of a completion of `prompt`."""
        return Walk(self._candidates(prompt), self._style(prompt))

    def _candidates(self, prompt: Prompt) -> Candidates:
        pairs = tuple(self._candidates_of(prompt))
        found = self._memory.get(pairs)
        if found is None:
            if not pairs:
                raise UserError("expert", self.name, f"has no candidate for prompt {prompt.key!r}")
            lines = self._encode([text for text, _ in pairs])
            found = Candidates(self.grammar, [(line, right) for line, (_, right) in zip(lines, pairs)])
            self._memory[pairs] = found
            if len(self._memory) > MEMORY:
                self._memory.popitem(last=False)
        else:
            self._memory.move_to_end(pairs)
        return found

    def _style(self, prompt: Prompt) -> tuple[int, ...]:
        if self.config.style == "none":
            return ()
        dice, letters = seed_from("style", self.config.style_secret, prompt.key), ""
        for _ in range(self.config.style_length):
            dice, letter = divmod(dice, 26)
            letters += chr(ord("a") + letter)
        return (*self._encode(["~" + letters])[0], self.grammar.newline)

    def _draw(self, tokens: tuple[int, ...], probs: tuple[float, ...], u: float) -> tuple[int, float]:
        """The token at `u` of the smoothed distribution's cumulative sum over increasing ids, and its probability."""
        keep, floor, below = self._keep, self._floor, 0.0  # below: structured mass of smaller ids
        for token, p in zip(tokens, probs):
            if u < keep * below + floor * token:
                return min(token - 1, int((u - keep * below) / floor)), floor
            if u < keep * (below + p) + floor * (token + 1):
                return token, keep * p + floor
            below += p
        if floor == 0.0:  # u fell into the rounding of the last sum
            return tokens[-1], probs[-1]
        return min(self.vocabulary - 1, int((u - keep * below) / floor)), floor

    def _dense(self, tokens: list[int], probs: list[float], counts: list[int]) -> Tensor:
        """(N, V) float32 log-probs from each row's sparse ones."""
        with np.errstate(divide="ignore"):
            logp_NV = np.full((len(counts), self.vocabulary), np.log(self._floor), dtype=np.float32)
            filled = np.log(self._keep * np.array(probs) + self._floor)
        logp_NV[np.repeat(np.arange(len(counts)), counts), tokens] = filled
        return torch.from_numpy(logp_NV)

    def _single(self, text: str) -> int:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise UserError("expert", self.name, f"needs a tokenizer in which {text!r} is one token, not {len(ids)}")
        return int(ids[0])

    def _plain_table(self) -> dict[str, int] | None:
        """Character -> id if every pair of candidate characters stays two tokens (then no longer merge exists)."""
        pairs = [a + b for a in PLAIN for b in PLAIN]
        ids = self.tokenizer(pairs, add_special_tokens=False)["input_ids"]
        table = {pair[0]: row[0] for pair, row in zip(pairs, ids)}
        plain = all(row == [table[pair[0]], table[pair[1]]] for pair, row in zip(pairs, ids))
        return table if plain else None

    def _encode(self, texts: list[str]) -> list[tuple[int, ...]]:
        if self._table is not None and all(set(text) <= self._table.keys() for text in texts):
            return [tuple([self._table[c] for c in text]) for text in texts]
        return [tuple(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def _decode(self, ids: list[list[int]]) -> list[str]:
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)

    def _provenance(self) -> dict[str, Any]:
        c = self.config
        honest = c.false_ok == 0 and c.false_no == 0
        mechanism = [
            "hidden search: the first token already depends on a solution that the student cannot have computed",
            f"an attempt is right with probability {c.p_right:g}"
            + (": it almost never errs, so its samples never show how to recover" if c.p_right > 0.9 else ""),
            f"a wrong attempt is called ok with probability {c.false_ok:g}, a right one no with {c.false_no:g}",
            "recovery after a wrong attempt is built in, and only visible when the student's own errors are scored"
            if c.false_ok < 1
            else "it calls every attempt ok, so it never shows recovery, not even after the student's own errors",
        ]
        if c.style != "none":
            mechanism.append(
                "its first line is a secret hash of the prompt, which no student can predict and the reward ignores"
            )
        return {
            "kind": "program",
            "program": "understudy.experts.solver",
            "config": asdict(c),
            "attempts": self.attempts,
            "honest": honest,
            "realizable": False,
            "mechanism": "; ".join(mechanism),
        }


class SolverSteps:
    """The solver as a Stepper: one cursor a live row."""

    def __init__(self, expert: SolverExpert, walks: list[Walk]) -> None:
        self._expert, self._walks = expert, walks

    def next_logp(self) -> Tensor:
        """(B_live, V) float32 log-probs."""
        tokens: list[int] = []
        probs: list[float] = []
        counts: list[int] = []
        for walk in self._walks:
            t, p = walk.next()
            tokens += t
            probs += p
            counts.append(len(t))
        return self._expert._dense(tokens, probs, counts)

    def advance(self, tokens_B: Tensor, keep_B: Tensor) -> None:
        live = []
        for walk, token, keep in zip(self._walks, tokens_B.tolist(), keep_B.tolist()):
            if keep:
                walk.push(token)
                live.append(walk)
        self._walks = live


def _coin(p: float) -> float:
    """Entropy of a coin, nats."""
    return 0.0 if p in (0, 1) else -p * log(p) - (1 - p) * log(1 - p)
