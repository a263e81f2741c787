"""The core of the solver: a cursor that walks a completion token by token and gives the next token's distribution.

`Candidates` holds the token sequences that an attempt can be, sorted, so that all candidates with a common
beginning are one interval; a `Node` is such a beginning. `Walk` is the cursor: which attempt, which node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Next = tuple[tuple[int, ...], tuple[float, ...]]
"""Token ids in increasing order and their probabilities, which sum to one; all other tokens have none."""


@dataclass(frozen=True)
class Grammar:
    """Token ids of the verdicts and the process's probabilities (see SolverConfig)."""

    ok: int
    no: int
    newline: int
    end: int
    attempts: int
    p_right: float
    lucky: bool
    false_ok: float
    false_no: float
    repeat: bool

    def right_share(self, right: int, wrong: int) -> float:
        """Probability that an attempt is right when so many right and wrong candidates are open."""
        if not right or not wrong:
            return float(right > 0)
        return self.p_right + (1 - self.p_right) * right / (right + wrong) if self.lucky else self.p_right


class Node:
    """The candidates lo..hi-1, which share their first `depth` tokens. The rest is worked out on demand."""

    __slots__ = ("depth", "hi", "kids", "lo", "next")

    def __init__(self, lo: int, hi: int, depth: int) -> None:
        self.lo, self.hi, self.depth = lo, hi, depth
        self.kids: dict[int, Node] | None = None
        self.next: Next | None = None  # while no candidate is excluded


class Candidates:
    """What an attempt at a problem can be: (token ids, right) pairs, at least one, none beginning another."""

    def __init__(self, grammar: Grammar, sequences: Sequence[tuple[tuple[int, ...], bool]]) -> None:
        ordered = sorted(sequences)
        self.grammar = grammar
        self.sequences = [tokens for tokens, _ in ordered]
        self.right = [right for _, right in ordered]
        self.right_before = [0]
        for right in self.right:
            self.right_before.append(self.right_before[-1] + right)
        self.n, self.n_right = len(ordered), self.right_before[-1]
        self.root = Node(0, self.n, 0)
        self.verdict = {right: self._verdict(right) for right in (False, True)}

    def is_whole(self, node: Node) -> bool:
        return node.depth == len(self.sequences[node.lo])

    def kids(self, node: Node) -> dict[int, Node]:
        """Token -> the node one token further, tokens increasing."""
        if node.kids is None:
            node.kids, at, depth = {}, node.lo, node.depth
            while at < node.hi and not self.is_whole(node):
                token = self.sequences[at][depth]
                first = at
                while at < node.hi and self.sequences[at][depth] == token:
                    at += 1
                node.kids[token] = Node(first, at, depth + 1)
        return node.kids

    def next(self, node: Node, tried: tuple[int, ...]) -> Next:
        """Exact conditional of the process at `node`, given that the candidates `tried` are not drawn."""
        if not tried and node.next is not None:
            return node.next
        if self.is_whole(node):
            node.next = self.verdict[self.right[node.lo]]
            return node.next
        kids = self.kids(node)
        if len(kids) == 1:
            node.next = (tuple(kids), (1.0,))
            return node.next
        following = self._mixture(kids, tried)
        if not tried:
            node.next = following
        return following

    def _mixture(self, kids: dict[int, Node], tried: tuple[int, ...]) -> Next:
        tried_right = sum(self.right[i] for i in tried)
        r_left = self.n_right - tried_right
        w_left = self.n - self.n_right - (len(tried) - tried_right)
        p = self.grammar.right_share(r_left, w_left)
        each_right, each_wrong = p / max(1, r_left), (1 - p) / max(1, w_left)
        tokens, weights, counts = [], [], []
        for token, kid in kids.items():
            right = self.right_before[kid.hi] - self.right_before[kid.lo]
            wrong = kid.hi - kid.lo - right
            for i in tried:
                if kid.lo <= i < kid.hi:
                    right, wrong = (right - 1, wrong) if self.right[i] else (right, wrong - 1)
            weight = each_right * right + each_wrong * wrong
            counts.append((token, right + wrong, kid.hi - kid.lo))
            if weight > 0:
                tokens.append(token)
                weights.append(weight)
        if not tokens:  # an attempt the process has no weight for: evenly among what is left
            column = 1 if any(untried for _, untried, _ in counts) else 2
            tokens = [row[0] for row in counts if row[column]]
            weights = [float(row[column]) for row in counts if row[column]]
        total = sum(weights)
        return tuple(tokens), tuple(w / total for w in weights)

    def _verdict(self, right: bool) -> Next:
        g = self.grammar
        p_ok = 1 - g.false_no if right else g.false_ok
        pairs = sorted((token, p) for token, p in ((g.ok, p_ok), (g.no, 1 - p_ok)) if p > 0)
        return tuple(token for token, _ in pairs), tuple(p for _, p in pairs)


STYLE, ATTEMPT, AFTER_NO, DONE = range(4)


class Walk:
    """Where a completion is. `next`: structured distribution of the next token; `push` takes any token."""

    __slots__ = ("attempt", "candidates", "mode", "node", "place", "style", "tried")

    def __init__(self, candidates: Candidates, style: tuple[int, ...] = ()) -> None:
        self.candidates, self.style = candidates, style
        self.mode = STYLE if style else ATTEMPT
        self.place = 0  # in the style line
        self.attempt = 0
        self.tried: tuple[int, ...] = ()
        self.node: Node | None = candidates.root  # None: no beginning of any candidate

    def next(self) -> Next:
        grammar = self.candidates.grammar
        if self.mode == ATTEMPT:
            if self.node is None:
                return self.candidates.verdict[False]
            return self.candidates.next(self.node, self.tried)
        if self.mode == STYLE:
            token = self.style[self.place] if self.place < len(self.style) else grammar.newline
        elif self.mode == AFTER_NO and self.attempt + 1 < grammar.attempts:
            token = grammar.newline
        else:
            token = grammar.end
        return (token,), (1.0,)

    def push(self, token: int) -> None:
        grammar = self.candidates.grammar
        if self.mode == STYLE:
            if self.place == 0 and token != self.style[0]:
                self.mode = ATTEMPT  # the style line was skipped
            else:
                self.place += 1
                if token == grammar.newline:
                    self.mode = ATTEMPT
                return
        if self.mode == DONE or token in (grammar.end, grammar.ok):
            self.mode = DONE
        elif token == grammar.newline:
            self.attempt += 1
            self.mode, self.node = ATTEMPT, self.candidates.root
            if self.attempt >= grammar.attempts:
                self.mode = DONE
        elif token == grammar.no:
            if self.mode == ATTEMPT and not grammar.repeat:
                self._remember()
            self.mode = AFTER_NO
        elif self.mode == AFTER_NO:
            self.mode, self.node = ATTEMPT, None
        elif self.node is not None:
            self.node = self.candidates.kids(self.node).get(token)

    def _remember(self) -> None:
        """Exclude the attempt that was just written out; when all were tried, all are open again."""
        node, candidates = self.node, self.candidates
        if node is None or not candidates.is_whole(node) or node.lo in self.tried:
            return
        tried = (*self.tried, node.lo)
        self.tried = tried if len(tried) < candidates.n else ()
