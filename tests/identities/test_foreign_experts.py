"""Experts of another family: exact identities by enumeration of all texts of up to three tokens, in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import Tabular, byte_level, letters, student_of

from understudy.experts.extrapolated import Extrapolated
from understudy.experts.foreign.expert import ForeignExpert
from understudy.experts.local import LocalExpert
from understudy.methods import divergences
from understudy.methods.cells import Method
from understudy.methods.kernel import Entropies, evaluate, token_losses
from understudy.methods.losses import Objective, divergence, scales, surrogate
from understudy.policy import Policy, load_policy, make_scratch, pad
from understudy.specs import parse_spec
from understudy.training.labels import weights
from understudy.types import Batch, Ledger, Prompt, Rollout

PLAIN = letters("ab")
MERGED = letters("ab", [("a", "b")])
KINDS = ("kl_student_expert", "kl_expert_student", "jsd")


def labelled(student: Tabular, expert: ForeignExpert, gamma: float) -> list[torch.Tensor]:
    """The weights that training gives all completions of a student."""
    rollouts = student.completions()
    method = Method(behavior="student", target="token", weight="log_ratio", gamma=gamma)
    behavior = [torch.tensor(r.behavior_logp, dtype=torch.float64) for r in rollouts]
    return weights(rollouts, behavior, method, student, expert, Ledger())  # type: ignore[arg-type]


def gradient(student: Tabular, weight: list[torch.Tensor]) -> torch.Tensor:
    """The expected gradient of the production surrogate, over everything that the student can write."""
    total = torch.zeros((), dtype=torch.float64)
    for r, w in zip(student.completions(), weight, strict=True):
        logp = student.logp(r.ids)
        total = total + logp.sum().exp().detach() * surrogate(logp, logp.detach(), w).sum()
    return torch.autograd.grad(total, student.table)[0]


def exact(student: Tabular, expert: Tabular) -> torch.Tensor:
    """KL of the student's completions from what the expert gives their texts, in the expert's usual tokens."""
    total = torch.zeros((), dtype=torch.float64)
    for r in student.completions():
        text = "".join(student.tokenizer.convert_ids_to_tokens(i) for i in r.ids if i)
        ids = [*expert.tokenizer(text)["input_ids"], *([0] if r.ended else [])]
        logp = student.logp(r.ids).sum()
        total = total + logp.exp() * (logp - expert.logp(ids).sum().detach())
    return total


@pytest.mark.parametrize(("of_student", "of_expert"), [(PLAIN, MERGED), (MERGED, PLAIN)])
def test_the_log_ratio_of_texts_is_the_sequence_kl(of_student: Any, of_expert: Any) -> None:
    """Catches a span counted twice or not at all, an end without a counterpart, and at gamma 1 a baseline that is no
    function of the past: where the expert's `ab` is one token, what `a` alone was worth is known after the b only."""
    student, expert = Tabular(of_student, 1), Tabular(of_expert, 2, most=6 if of_expert is PLAIN else 3)
    foreign = ForeignExpert(expert, expert, student_of(of_student))
    value = exact(student, expert)
    weight = labelled(student, foreign, 1.0)
    estimate = sum(
        -student.logp(r.ids).sum().exp().detach() * w[0] for r, w in zip(student.completions(), weight, strict=True)
    )
    assert float(estimate) == pytest.approx(
        float(value.detach()), abs=1e-8
    )  # gamma 1: every token has the sum of its row
    wanted = torch.autograd.grad(value, student.table)[0]
    assert torch.allclose(gradient(student, weight), wanted, rtol=0, atol=1e-8)
    assert (gradient(student, labelled(student, foreign, 0.0)) - wanted).abs().max() > 1e-2


def test_where_student_tokens_are_whole_spans_gamma_0_is_the_kl_of_the_next_token() -> None:
    """The student merges, the expert does not: each of its tokens is a span by itself, and gamma 0 exact as usual."""
    student, expert = Tabular(MERGED, 1), Tabular(PLAIN, 2, most=6)
    foreign = ForeignExpert(expert, expert, student_of(MERGED))
    total = torch.zeros((), dtype=torch.float64)
    for r in student.completions():
        logp_TV, before, score = student.rows(r.ids), "", []
        for t in range(len(r.ids)):  # expert's log-prob of each next token of the student, by its letters
            own = expert.tokenizer(before)["input_ids"]
            parts = [[0], [1], [2], [1, 2]]
            score.append([float(expert.logp([*own, *part]).detach()[len(own) :].sum()) for part in parts])
            before += student.tokenizer.convert_ids_to_tokens(r.ids[t]) if r.ids[t] else ""
        reach = student.logp(r.ids).sum().exp().detach()
        total = total + reach * divergences.kl(logp_TV, torch.tensor(score, dtype=torch.float64)).sum()
    wanted = torch.autograd.grad(total, student.table)[0]
    assert torch.allclose(gradient(student, labelled(student, foreign, 0.0)), wanted, rtol=0, atol=1e-8)


def writer_of(student: Tabular, tokenizer: Any) -> Tabular:
    """An expert that writes the student's texts as often, in its own usual tokens."""
    expert = Tabular(tokenizer, 2)
    tables = torch.full_like(expert.table.detach(), -1e4)
    probability = {r.ids: float(student.logp(r.ids).detach().sum().exp()) for r in student.completions()}
    mass: dict[tuple[int, ...], float] = {}
    for ids, p in probability.items():
        text = "".join(student.tokenizer.convert_ids_to_tokens(i) for i in ids if i)
        own = (*expert.tokenizer(text)["input_ids"], *([0] if ids[-1] == 0 else []))
        for t in range(len(own) + 1):
            mass[own[:t]] = mass.get(own[:t], 0.0) + p
    for prefix, row in expert.prefixes.items():
        for v in range(expert.vocabulary):
            if mass.get((*prefix, v)):
                tables[row, v] = torch.tensor(mass[(*prefix, v)] / mass[prefix], dtype=torch.float64).log()
    return Tabular(tokenizer, 2, table=tables)


def test_equal_distributions_of_text_are_a_fixed_point_at_gamma_1_and_not_at_gamma_0() -> None:
    """An expert that writes the student's texts as often, in merged tokens: no gradient at gamma 1. Control: at gamma
    0 a span ends where the text behind it decides so, and its log-ratio is no estimate of a KL."""
    student = Tabular(PLAIN, 1)
    expert = writer_of(student, MERGED)
    foreign = ForeignExpert(expert, expert, student_of(PLAIN))
    # a text of three letters may be cut in the middle of what the expert goes on with: those rows lose no mass here
    assert float(exact(student, expert)) == pytest.approx(0, abs=1e-8)
    assert gradient(student, labelled(student, foreign, 1.0)).abs().max() < 1e-8
    assert gradient(student, labelled(student, foreign, 0.0)).abs().max() > 1e-3


# ---------------------------------------------------------------- distributions


def batch_of(student: Tabular, foreign: ForeignExpert, rollouts: list[Rollout]) -> tuple[Batch, torch.Tensor]:
    """(a batch of these completions with the signal of the expert, the student's logits)."""
    signal = foreign.signal([[r] for r in rollouts])
    lengths = [len(r.ids) for r in rollouts]
    row_N = torch.arange(len(rollouts)).repeat_interleave(torch.tensor(lengths))
    n = len(row_N)
    ids_N = torch.tensor([i for r in rollouts for i in r.ids])
    none = torch.zeros(n, dtype=torch.long)
    weight_N = torch.ones(n, dtype=torch.float64)
    logits_NV = torch.cat([student.rows(r.ids) for r in rollouts]).detach()
    return Batch(none[:, None], None, none[:, None], none, ids_N, row_N, weight_N, None, signal), logits_NV


def given_the_text(
    expert: Tabular, own: list[int], after: torch.Tensor, name: dict[int, str], other: dict[int, str],
    written: tuple[int, ...], of_student: Any,
) -> torch.Tensor:  # fmt: skip
    """Log-probs of the expert's next token, where its last one could have been a longer one that begins alike: of such
    a one, the mass of what the student writes next in it. By hand, for tokens of at most two letters."""
    if not own or not written or other[own[-1]] != name[written[-1]]:
        return after
    before, mass = expert.rows(own)[-1].detach().exp(), after.exp() * 0.0
    for whole, text in other.items():
        ids = of_student(text)["input_ids"] if whole and text not in name.values() else []
        if len(ids) == 2 and ids[0] == written[-1]:
            mass[next(i for i, x in other.items() if x == name[ids[1]])] += before[whole]
    total = before[own[-1]] + mass.sum()
    return ((before[own[-1]] * after.exp() + mass) / total).log()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("match", ["first", "shared"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_matched_divergence_is_that_of_the_coarsened_distributions(kind: str, match: str, swapped: bool) -> None:
    """The value and the gradient of the production kernel against autograd of the divergence of the buckets. Catches
    mass that leaves the comparison, a bucket counted once per token, and a gradient through the expert's share."""
    tokenizers = (MERGED, letters("ab", [("b", "a"), ("a", "a")]))
    of_student, of_expert = tokenizers[::-1] if swapped else tokenizers
    student, expert = Tabular(of_student, 1), Tabular(of_expert, 2)
    foreign = ForeignExpert(expert, expert, student_of(of_student), match)
    name = {i: of_student.convert_ids_to_tokens(i) for i in range(len(of_student))}
    other = {i: of_expert.convert_ids_to_tokens(i) for i in range(len(of_expert))}

    def bucket(token: str) -> int:
        if token in name.values() and token in other.values():
            return [*name.values()].index(token)
        return [*name.values()].index(token[0]) if match == "first" else len(name)

    rollouts = [r for r in student.completions() if len(r.ids) < 3]
    batch, logits_NV = batch_of(student, foreign, rollouts)
    goal = Objective("distribution", kind, beta=0.3)
    part = evaluate(logits_NV.clone(), None, batch, goal, slice(0, len(logits_NV)))
    at = 0
    for r in rollouts:
        text = ""
        for t, i in enumerate(r.ids):
            own = of_expert(text)["input_ids"]
            whole = of_expert("".join(name[j] for j in r.ids if j))["input_ids"]
            z = logits_NV[at].clone().requires_grad_()
            if whole[: len(own)] == own:  # the expert has a boundary here
                coarse = []
                goes_on = expert.rows([*own, 0])[-1].detach()
                if match == "first":
                    goes_on = given_the_text(expert, own, goes_on, name, other, r.ids[:t], of_student)
                for logp, names in ((z.log_softmax(-1), name), (goes_on, other)):
                    groups: dict[int, list[int]] = {}
                    for v, token in names.items():
                        groups.setdefault(bucket(token), []).append(v)
                    empty = torch.full((), -torch.inf, dtype=torch.float64)
                    coarse.append(
                        torch.stack(
                            [logp[groups[b]].logsumexp(0) if b in groups else empty for b in range(len(name) + 1)]
                        )
                    )
                used = torch.isfinite(coarse[0]) & torch.isfinite(coarse[1])
                s, e = (x[used][None] for x in coarse)
                loss = divergence(s, e, kind, 0.3).sum()
                (slope,) = torch.autograd.grad(loss, z)
            else:
                loss, slope = torch.zeros((), dtype=torch.float64), torch.zeros_like(z)
            assert float(part.loss_n[at]) == pytest.approx(float(loss.detach()), abs=1e-8), (r.ids, t)
            assert torch.allclose(part.d_nV[at] * part.factor_n[at], slope, rtol=0, atol=1e-8), (r.ids, t)
            text += name[i] if i else ""
            at += 1


def test_first_is_the_expert_s_next_letter_where_it_merges_the_student_s() -> None:
    """Student letter by letter, expert with a token `ab`: its mass belongs to the letter a, exactly. Control: `shared`
    leaves it in a tail that the student has not, and is another distribution."""
    student, expert = Tabular(PLAIN, 1), Tabular(MERGED, 2)
    r = next(r for r in student.completions() if r.ids == (2, 0))
    z = student.rows(r.ids).detach()
    p = expert.rows((2, 0)).detach().exp()  # end, a, b, ab
    wanted = torch.stack([p[:, 0], p[:, 1] + p[:, 3], p[:, 2]], 1).log()
    found = {
        match: ForeignExpert(expert, expert, student_of(PLAIN), match).signal([[r]]).beside(z, slice(0, 2), 0, "")
        for match in ("first", "shared")
    }
    assert torch.allclose(found["first"], wanted, rtol=0, atol=1e-8)
    assert torch.allclose(found["shared"], p[:, :3].log() - p[:, :3].sum(1, keepdim=True).log(), rtol=0, atol=1e-8)
    assert (found["shared"] - wanted).abs().max() > 1e-2


@pytest.mark.parametrize("merges", [[("a", "b")], [("a", "b"), ("ab", "a")]])
@pytest.mark.parametrize("kind", KINDS)
def test_next_tokens_lead_to_the_expert_s_texts(merges: list[tuple[str, str]], kind: str) -> None:
    """The student writes letters, the expert the texts of a random policy in longer tokens too: where the student's own
    policy is that one, no gradient is left. Control: `shared`, which reads the expert behind its last token alone."""
    student, tokenizer = Tabular(PLAIN, 1), letters("ab", merges)
    expert = writer_of(student, tokenizer)
    left = {}
    for match in ("first", "shared"):
        foreign = ForeignExpert(expert, expert, student_of(PLAIN), match)
        rollouts = student.completions()
        batch, logits_NV = batch_of(student, foreign, rollouts)
        part = evaluate(
            logits_NV.clone(), None, batch, Objective("distribution", kind, beta=0.3), slice(0, len(logits_NV))
        )
        reach = torch.cat([student.logp(r.ids).sum().exp().detach().expand(len(r.ids)) for r in rollouts])
        left[match] = float((part.d_nV * (part.factor_n * reach)[:, None]).abs().max())
    assert left["first"] < 1e-8
    assert left["shared"] > 1e-3


def test_the_sorted_distance_is_blind_to_names_and_has_its_gradient() -> None:
    student, expert = Tabular(PLAIN, 1), Tabular(MERGED, 2)
    foreign = ForeignExpert(expert, expert, student_of(PLAIN))
    rollouts = [r for r in student.completions() if r.ids in ((2, 0), (1, 2, 0))]
    batch, logits_NV = batch_of(student, foreign, rollouts)
    part = evaluate(logits_NV.clone(), None, batch, Objective("distribution", "uld"), slice(0, len(logits_NV)))
    states = [(), (2,), (), None, (3,)]  # of the expert: none between the letters of its `ab`
    for n, state in enumerate(states):
        z = logits_NV[n].clone().requires_grad_()
        if state is None:
            assert float(part.loss_n[n]) == 0.0
            assert not part.d_nV[n].any()
            continue
        q = expert.rows((*state, 0))[-1].detach()
        ranked = [x.sort(descending=True).values for x in (z.softmax(-1), q.exp())]
        loss = (torch.nn.functional.pad(ranked[0], (0, 1)) - ranked[1]).abs().sum()
        assert float(part.loss_n[n]) == pytest.approx(float(loss.detach()), abs=1e-10)
        assert float(divergences.sorted_distance(z.log_softmax(-1), q[torch.randperm(4)])) == pytest.approx(float(loss))
        (slope,) = torch.autograd.grad(loss, z)
        assert torch.allclose(part.d_nV[n] * part.factor_n[n], slope, atol=1e-10)


@pytest.mark.parametrize("kind", [*KINDS, "uld"])
def test_the_expert_s_entropy_is_that_of_its_own_next_token(kind: str) -> None:
    """Catches the entropy of what the student compares with, and places without a boundary that count as the
    student's own."""
    student, expert = Tabular(PLAIN, 1), Tabular(MERGED, 2)
    foreign = ForeignExpert(expert, expert, student_of(PLAIN))
    rollouts = [r for r in student.completions() if r.ids in ((2, 0), (1, 2, 0))]
    batch, logits_NV = batch_of(student, foreign, rollouts)
    states = [(), (2,), (), None, (3,)]  # as above
    entropy = [None if x is None else float(divergences.entropy(expert.rows((*x, 0))[-1].detach())) for x in states]
    for watched in (None, [1, 3, 4], [3]):
        seen = Entropies()
        which = replace(batch, watched_M=None if watched is None else torch.tensor(watched))
        for at in (slice(0, 2), slice(2, 5)):
            evaluate(logits_NV[at].clone(), None, which, Objective("distribution", kind), at, seen)
        wanted = [e for i, e in enumerate(entropy) if e is not None and (watched is None or i in watched)]
        _, tokens, nats, known = seen.sums
        assert (tokens, known) == (5 if watched is None else len(watched), len(wanted))
        assert nats == pytest.approx(sum(wanted), abs=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_extrapolation_between_families_is_linear_in_the_spans(gamma: float) -> None:
    """Catches a base that is read token by token where the expert has spans: exopd's weights are
    those of base plus factor times (expert - base), summed over spans."""
    student, expert, base = Tabular(PLAIN, 1), Tabular(MERGED, 2), Tabular(PLAIN, 3)
    foreign = ForeignExpert(expert, expert, student_of(PLAIN))
    by = {name: labelled(student, e, gamma) for name, e in (("expert", foreign), ("base", InSpans(base, foreign)))}
    got = labelled(student, Extrapolated(foreign, base, 1.5), gamma)
    for e, b, x in zip(by["expert"], by["base"], got, strict=True):
        torch.testing.assert_close(x, b + 1.5 * (e - b), atol=1e-8, rtol=0)


class InSpans(Tabular):
    """The base, scored in the expert's spans."""

    def __init__(self, base: Tabular, foreign: ForeignExpert) -> None:
        super().__init__(base.tokenizer, 0, table=base.table.detach())
        self.foreign = foreign

    def spans(self, rollouts: Any) -> Any:
        return self.foreign.spans(rollouts)


# ---------------------------------------------------------------- equal tokenizers


def real(models: dict[str, Path], arch: str) -> Policy:
    return load_policy(str(models[arch]), "student", device="cpu")


def drawn(policy: Policy, n: int = 3) -> list[Rollout]:
    prompts = policy.encode([Prompt("p0", "1 2>3\n"), Prompt("p1", "4 5 6>15\n")])
    return LocalExpert(policy).sample(prompts, n, 0, 12)


def test_equal_tokenizers_give_the_ordinary_row_bit_for_bit(models: dict[str, Path]) -> None:
    """Scores, weights at every gamma, signals, losses and gradients; the completions are no canonical tokens."""
    student, policy = real(models, "llama"), real(models, "qwen3")
    plain = LocalExpert(policy)
    foreign = ForeignExpert(plain, policy, student)
    rollouts = drawn(student)
    assert all(map(torch.equal, plain.score(rollouts), foreign.score(rollouts)))
    behavior = [torch.tensor(r.behavior_logp) for r in rollouts]
    for gamma in (0.0, 0.5, 1.0):
        method = Method(behavior="student", target="token", weight="log_ratio", gamma=gamma)
        both = [weights(rollouts, behavior, method, student, e, Ledger()) for e in (plain, foreign)]
        assert all(map(torch.equal, *both))
    packs = [rollouts[:3], rollouts[3:]]
    padded = pad(packs, student.pad_id)
    for goal in (*(Objective("distribution", k, beta=0.3) for k in KINDS), Objective("distribution", "uld")):
        out = []
        for e in (plain, foreign):
            batch = Batch(
                padded.input_ids_BS, padded.attention_mask, padded.position_ids_BS, padded.place_N,
                padded.action_ids_N, padded.row_N, torch.ones(len(padded.row_N)), None, e.signal(packs),
            )  # fmt: skip
            for p in student.model.parameters():
                p.grad = None
            losses = token_losses(student.hidden(batch), student.head, batch, goal, scales(batch.row_N, "token_mean"))
            losses.total.backward()
            out.append([losses.loss_N, *(p.grad.clone() for p in student.model.parameters() if p.grad is not None)])
        assert all(map(torch.equal, *out)), goal.divergence


def test_the_same_tokens_under_other_numbers_change_nothing() -> None:
    """Student and expert differ in the numbers of their tokens alone: all scores, spans and divergences are those of
    the expert with the student's numbers. Catches ids that are used on the wrong side."""
    merges = [("1", "5"), ("o", "k")]
    n = 2 + 256 + len(merges)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    spec = parse_spec("scratch:width=16,layers=1,heads=2,context=64,init=0.5", "student")
    student, same = (make_scratch(spec, byte_level(merges), seed) for seed in (1, 2))
    other = make_scratch(spec, byte_level(merges, order=order), 2)
    for policy in (student, same, other):
        policy.model.double()
    other.model.load_state_dict(same.model.state_dict())
    with torch.no_grad():
        other.model.get_input_embeddings().weight.copy_(same.model.get_input_embeddings().weight[order])
    foreign, plain = ForeignExpert(LocalExpert(other), other, student), LocalExpert(same)
    assert not foreign.translation.same
    prompts = student.encode([Prompt("p", "1 5>15\n")])
    ids = [(*student.tokenizer(t)["input_ids"], 1) for t in ("1+5=15 ok", "15", "no é ✓")]
    rollouts = [Rollout(prompts[0], i, x, (0.0,) * len(x), True, "", "student") for i, x in enumerate(ids)]
    for a, b in zip(plain.score(rollouts), foreign.score(rollouts), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-5)  # scores are kept in float32
    spans = foreign.spans(rollouts)
    assert spans is not None
    assert all(s.tolist() == list(range(len(r.ids))) for s, r in zip(spans, rollouts))
    packs = [[r] for r in rollouts]
    whole = slice(0, sum(map(len, ids)))
    table = student.signal(packs).table(whole).clone()
    found, wanted = foreign.signal(packs).beside(table, whole, 0, ""), plain.signal(packs).table(whole)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-10)
    for of in ("student", "expert"):
        coarse = foreign.signal(packs).beside(table, whole, 5, of)
        best = (table if of == "student" else wanted).topk(5, -1).indices
        s, e = (divergences.bucketed(x, best) for x in (table, wanted))
        assert torch.allclose(divergences.kl(table, coarse), divergences.kl(s, e), rtol=0, atol=1e-8)
    alone = [replace(r, prompt=replace(r.prompt, text="")) for r in rollouts]
    assert torch.equal(foreign.score(alone)[0], foreign.score(rollouts)[0])  # a prompt known by its ids alone
