"""The solver: what it samples is what it scores, and both are the process that its docstring states.

The reference lists every completion of a tiny problem with its probability, computed from the description of the
process without the code under test.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from understudy.errors import UserError
from understudy.experts.programs.solver import PRESETS, SolverExpert
from understudy.methods.divergences import entropy
from understudy.policy.sampling import draw
from understudy.protocols import Expert
from understudy.specs import parse_spec
from understudy.tasks.countdown import CountdownConfig, CountdownTask
from understudy.types import Prompt, Rollout

TASK = CountdownTask()
TOKENIZER = TASK.tokenizer()
END = TOKENIZER.eos_token_id
V = len(TOKENIZER)
TINY = CountdownTask(CountdownConfig(n_numbers=2, attempts=2))
TINY_PROMPT = Prompt("tiny", "3 5>2\n", {"nums": (3, 5), "target": 2})  # 5-3 is right; 3+5, 5+3 and 3-5 are wrong
PROCESSES: dict[str, dict[str, Any]] = {
    "search": {"p_right": 0.995},
    "repeating liar": {"p_right": 0.3, "false_ok": 0.25, "false_no": 0.4},
    "mediocre": {"p_right": 0.12, "lucky": True, "false_ok": 0.4, "false_no": 0.05, "repeat": False},
    "never right": {"p_right": 0, "repeat": False},
    "always right": {"p_right": 1, "false_no": 0.5, "repeat": False},
}


def solver(
    name: str = "solver", task: CountdownTask = TASK, tokenizer: Any = TOKENIZER, **options: Any
) -> SolverExpert:
    text = ",".join(f"{key}={value}" for key, value in options.items())
    expert = task.expert(parse_spec(f"{name}:{text}", "expert"), tokenizer)
    assert isinstance(expert, SolverExpert)
    return expert


def ids(text: str) -> list[int]:
    """Token ids; a trailing $ is the end token."""
    out = TOKENIZER(text.removesuffix("$"), add_special_tokens=False)["input_ids"]
    return [*out, END] if text.endswith("$") else out


def rollout(prompt: Prompt, tokens: list[int]) -> Rollout:
    return Rollout(prompt, 0, tuple(tokens), (0.0,) * len(tokens), tokens[-1] == END, "", "student")


def after(expert: SolverExpert, prompt: Prompt, text: str) -> dict[str, float]:
    """Structured next-token probabilities after `text`."""
    walk = expert.walk(prompt)
    for token in ids(text):
        walk.push(token)
    return {"$" if t == END else TOKENIZER.decode([t]): p for t, p in zip(*walk.next())}


def completions(expert: SolverExpert, prompt: Prompt) -> Iterator[tuple[str, float]]:
    """Each completion of the process -> its probability."""
    c, attempts = expert.config, expert.space.attempts
    lines = dict(expert.space.candidates(prompt))

    def attempt(k: int, tried: frozenset[str]) -> Iterator[tuple[str, float]]:
        open_ = [x for x in lines if x not in tried]
        right, wrong = [x for x in open_ if lines[x]], [x for x in open_ if not lines[x]]
        p = c.p_right if right and wrong else float(bool(right))
        for line in open_:
            drawn = p / len(right) if lines[line] else (1 - p) / len(wrong)
            if c.lucky and right and wrong:
                drawn = lines[line] * c.p_right / len(right) + (1 - c.p_right) / len(open_)
            says_no = c.false_no if lines[line] else 1 - c.false_ok
            if drawn * (1 - says_no):
                yield f"{line} ok$", drawn * (1 - says_no)
            if drawn * says_no and k + 1 == attempts:
                yield f"{line} no$", drawn * says_no
            elif drawn * says_no:
                # all are open again once all were tried
                seen = frozenset() if c.repeat or len(tried) + 1 == len(lines) else tried | {line}
                for rest, q in attempt(k + 1, seen):
                    yield f"{line} no\n{rest}", drawn * says_no * q

    yield from attempt(0, frozenset())


# -- exactness -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_every_completion_has_its_stated_probability(process: str, attempts: int) -> None:
    # five attempts at four candidates without repeating pass through "all were tried, all are open again"
    task = CountdownTask(CountdownConfig(n_numbers=2, attempts=attempts))
    expert = solver(task=task, smoothing=0, **PROCESSES[process])
    expected: Counter[str] = Counter()
    for text, p in completions(expert, TINY_PROMPT):
        expected[text] += p
    assert sum(expected.values()) == pytest.approx(1)
    scores = expert.score([rollout(TINY_PROMPT, ids(text)) for text in expected])
    for (text, p), score in zip(expected.items(), scores):
        assert float(score.double().sum().exp()) == pytest.approx(p, rel=1e-5), text
    assert expert.entropy(TINY_PROMPT) == pytest.approx(-sum(p * np.log(p) for p in expected.values()))


@pytest.mark.parametrize("process", PROCESSES)
def test_every_prefix_gets_the_exact_conditional(process: str) -> None:
    expert = solver(task=TINY, smoothing=0.01, **PROCESSES[process])
    mass: Counter[tuple[int, ...]] = Counter()  # of every prefix of every completion
    for text, p in completions(expert, TINY_PROMPT):
        tokens = tuple(ids(text))
        for t in range(len(tokens) + 1):
            mass[tokens[:t]] += p
    whole = {prefix for prefix in mass if prefix and prefix[-1] == END}
    for tokens in whole:
        (logp_TV,) = expert.distribution([rollout(TINY_PROMPT, list(tokens))])
        for t in range(len(tokens)):
            structured = torch.tensor([mass[(*tokens[:t], v)] / mass[tokens[:t]] for v in range(V)])
            expected = 0.99 * structured + 0.01 / V
            torch.testing.assert_close(logp_TV[t].exp(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("process", PROCESSES)
def test_entropy_is_the_mean_surprise_of_samples(process: str) -> None:
    expert = solver(smoothing=0, **PROCESSES[process])
    prompt = TASK.prompts("train", 1, 0)[0]
    surprise = [-sum(r.behavior_logp) for r in expert.sample([prompt], 2000, 0, TASK.max_new_tokens)]
    error = np.std(surprise) / 2000**0.5 + 1e-9
    assert abs(np.mean(surprise) - expert.entropy(prompt)) < 5 * error, "false failure: once in a million seeds"


# -- samples -------------------------------------------------------------------------------------------------


def chi2_too_large(counts: Counter[Any], expected: dict[Any, float]) -> bool:
    """Pearson's test at one false failure in a million; cells below five are pooled."""
    assert set(counts) <= set(expected), "drew what has no probability"
    big = {k: e for k, e in expected.items() if e >= 5}
    cells = [(counts[k], e) for k, e in big.items()]
    rest = sum(e for k, e in expected.items() if k not in big)
    if rest > 0:
        cells.append((sum(n for k, n in counts.items() if k not in big), max(rest, 1.0)))
    statistic = sum((n - e) ** 2 / e for n, e in cells)
    return statistic > chi2.ppf(1 - 1e-6, max(1, len(cells) - 1))


@pytest.mark.parametrize("process", PROCESSES)
def test_samples_come_as_often_as_they_should(process: str) -> None:
    expert, n = solver(task=TINY, smoothing=0, **PROCESSES[process]), 4000
    expected: Counter[str] = Counter()
    for text, p in completions(expert, TINY_PROMPT):
        expected[text] += n * p
    drawn = Counter(r.text + "$" for r in expert.sample([TINY_PROMPT], n, 1, 50))
    assert not chi2_too_large(drawn, expected)
    assert chi2_too_large(Counter({k: c for k, c in drawn.items() if c < max(drawn.values())}), expected)


def test_smoothed_samples_follow_the_scored_distribution_slips_included() -> None:
    expert, n = solver(task=TINY, smoothing=0.4), 6000
    drawn = expert.sample([TINY_PROMPT], n, 2, 3)
    (logp_TV,) = expert.distribution([rollout(TINY_PROMPT, ids("5-3=2 ok$"))])
    first = Counter(r.ids[0] for r in drawn)
    assert not chi2_too_large(first, {v: n * float(logp_TV[0, v].exp()) for v in range(V)})
    second = Counter(r.ids[1] for r in drawn if r.ids[0] == ids("5")[0])
    m = sum(second.values())
    assert not chi2_too_large(second, {v: m * float(logp_TV[1, v].exp()) for v in range(V)})
    assert len(first) > 150, "every token has its chance"


def test_a_sample_does_not_depend_on_its_batch() -> None:
    expert = solver("mediocre")
    prompts = TASK.prompts("train", 20, 0)
    whole = expert.sample(prompts, 3, 7, 82)
    assert whole == [r for p in prompts for r in solver("mediocre").sample([p], 3, 7, 82)]
    assert [(r.prompt.key, r.sample) for r in whole] == [(p.key, s) for p in prompts for s in range(3)]
    assert whole != expert.sample(prompts, 3, 8, 82)
    short = expert.sample(prompts, 3, 7, 5)
    assert all(s.ids == r.ids[:5] and not s.ended for s, r in zip(short, whole)), "a limit only cuts"


@pytest.mark.parametrize("name", PRESETS)
def test_samples_score_as_they_were_drawn(name: str) -> None:
    expert = solver(name)
    for r, logp in zip(drawn := expert.sample(TASK.prompts("train", 40, 3), 2, 0, 82), expert.score(drawn)):
        torch.testing.assert_close(logp, torch.tensor(r.behavior_logp), atol=1e-6, rtol=1e-6)
        assert r.ended == (r.ids[-1] == END)
        assert r.text == TOKENIZER.decode(list(r.ids), skip_special_tokens=True)


@pytest.mark.parametrize("name", ["search", "styled", "half"])
def test_the_stepper_draws_the_same_completions(name: str) -> None:
    expert = solver(name, smoothing=0.02)
    prompts = TASK.prompts("test", 30, 0)
    direct = expert.sample(prompts, 2, 5, 60)
    stepped = draw(
        expert.start, lambda x: TOKENIZER.batch_decode(x, skip_special_tokens=True), [END], prompts, 2, 5, 60, "expert"
    )
    same = [a.ids == b.ids for a, b in zip(direct, stepped)]
    assert np.mean(same) > 0.95, "but for rounding at the edges of the cumulative sum (float32 log-probs there)"


# -- any prefix ----------------------------------------------------------------------------------------------

TOKENS = st.one_of(st.integers(0, V - 1), st.sampled_from(ids("0123456789+-= ok no\n~a$")))


@settings(max_examples=150)
@given(st.data())
def test_any_prefix_has_a_distribution_and_its_score_is_an_entry(data: st.DataObject) -> None:
    expert = solver(data.draw(st.sampled_from(["search", "half", "styled"])), repeat=data.draw(st.booleans()))
    prompt = TASK.prompts("ood", 1, data.draw(st.integers(0, 50)))[0]
    start = list(expert.sample([prompt], 1, 0, 82)[0].ids[:-1])
    tokens = start[: data.draw(st.integers(0, len(start)))] + data.draw(st.lists(TOKENS, min_size=1, max_size=30))
    case = rollout(prompt, tokens)
    (logp_TV,), (score_T,) = expert.distribution([case]), expert.score([case])
    assert logp_TV.shape == (len(tokens), V)
    assert logp_TV.dtype == score_T.dtype == torch.float32
    torch.testing.assert_close(logp_TV.exp().sum(-1), torch.ones(len(tokens)), atol=1e-5, rtol=0)
    assert bool(torch.isfinite(logp_TV).all())
    torch.testing.assert_close(logp_TV.gather(-1, torch.tensor(tokens)[:, None])[:, 0], score_T)
    steps = expert.start([prompt, prompt])
    for t, token in enumerate(tokens):
        torch.testing.assert_close(steps.next_logits()[-1], logp_TV[t])
        if t == 1:  # the first row leaves
            steps.keep(torch.tensor([1]))
        steps.advance(torch.tensor([token] * len(steps.next_logits())))


P15 = Prompt("k", "5 3 7>15\n", {"nums": (5, 3, 7), "target": 15})
WRONG = "3-5=-2+7=5"
RECOVERS = {
    WRONG: {" no": 1.0},
    "3+5=8+7=15": {" ok": 1.0},
    "3+5=8+7=1": {"5": 1.0},
    "3+5=9": {" no": 1.0},  # a false sum: admit it
    "hello": {" no": 1.0},
    "5": {"+": 1.0},  # the right chains start 5+3, 5+7 (3+5, 3+7, 7+3, 7+5); 5- starts wrong ones only
    WRONG + "0": {" no": 1.0},
    WRONG + " no": {"\n": 1.0},
    WRONG + " no no": {"\n": 1.0},
    WRONG + " no5": {" no": 1.0},
    WRONG + " ok": {"$": 1.0},
    WRONG + " ok\n": {"$": 1.0},
    WRONG + " ok\n3+5": {"$": 1.0},
    "\n\n\n": None,  # three empty attempts: the last one starts
    "\n\n\n\n": {"$": 1.0},
    f"{WRONG} no\n" * 3 + WRONG: {" no": 1.0},
    f"{WRONG} no\n" * 3 + WRONG + " no": {"$": 1.0},
    f"{WRONG} no\n" * 4: {"$": 1.0},
    f"{WRONG} no\n" * 3 + "3+5=8+7=15": {" ok": 1.0},
    "3 ok": {"$": 1.0},
    "3 no": {"\n": 1.0},
    "3+5=8+7=15$": {"$": 1.0},
}


@pytest.mark.parametrize(("text", "expected"), RECOVERS.items())
def test_what_it_says_to_a_student(text: str, expected: dict[str, float] | None) -> None:
    expert = solver("search", p_right=1)
    got = after(expert, P15, text)
    assert got == (expected if expected is not None else after(expert, P15, ""))


def test_a_liar_calls_every_wrong_attempt_ok_garbage_included() -> None:
    expert = solver("always_ok")
    assert after(expert, P15, WRONG) == after(expert, P15, "3+5=9") == after(expert, P15, "3+5=8+7=15") == {" ok": 1.0}


def test_it_goes_on_where_the_student_is_even_towards_a_wrong_candidate() -> None:
    expert = solver("search", p_right=1)
    assert after(expert, P15, "5-") == {"3": 0.5, "7": 0.5}, "no right chain starts so: evenly among the wrong"
    expert = solver("search", p_right=1, repeat=False)
    assert after(expert, P15, "5-7=-2-3=-5 no\n5-7=-2") == {"+": 1.0}, "what was tried is not drawn again"
    tried = "5-7=-2-3=-5 no\n5-7=-2+3=1 no\n"
    assert after(expert, P15, tried + "5-7=-2") == {"+": 0.5, "-": 0.5}, "unless the student insists"


def test_the_posterior_weighs_right_against_wrong() -> None:
    # of 24 candidates 6 are right; first number 5: 2 right (5+3+7, 5+7+3) and 6 wrong
    expert = solver("search", p_right=0.6)
    right, wrong = 0.6 * 1 / 6, 0.4 * 1 / 18
    got = after(expert, P15, "5")
    assert got["+"] == pytest.approx((2 * right + 2 * wrong) / (2 * right + 6 * wrong))
    assert got["-"] == pytest.approx(4 * wrong / (2 * right + 6 * wrong))


def test_it_recovers_from_a_students_errors_most_of_the_time() -> None:
    expert, solved = solver("search"), 0
    prompts = TASK.prompts("test", 60, 0)
    for p in prompts:
        wrong = next(text for text, right in TASK.candidates(p) if not right)
        prefix = ids(f"{wrong} no\n{wrong[:4]}")
        steps = expert.start([p])
        text = TOKENIZER.decode(prefix)
        for token in prefix:
            steps.advance(torch.tensor([token]))
        for _ in range(60):
            token = int(steps.next_logits().argmax(-1))
            if token == END:
                break
            text += TOKENIZER.decode([token])
            steps.advance(torch.tensor([token]))
        solved += TASK.verify(p, text, True) == 1.0
    assert solved == 60


# -- the named settings --------------------------------------------------------------------------------------


def accuracy(expert: SolverExpert, split: str = "train", n: int = 1500) -> tuple[float, float, float]:
    """Accuracy, mean attempts and share of completions that say no at least once."""
    drawn = expert.sample(TASK.prompts(split, n, 0), 1, 0, TASK.max_new_tokens)
    assert np.mean([r.ended for r in drawn]) > 0.999
    good = np.mean([TASK.verify(r.prompt, r.text, r.ended) for r in drawn])
    return (float(good), np.mean([r.text.count("\n") + 1 for r in drawn]), np.mean([" no" in r.text for r in drawn]))


def test_settings_do_what_their_names_say() -> None:
    good, attempts, no = accuracy(solver("search"))
    assert good > 0.99
    assert attempts < 1.1
    assert no < 0.05, "its samples almost never contain a recovery"
    assert accuracy(solver("search"), "ood")[0] > 0.99
    assert accuracy(solver("always_ok"))[0] > 0.97
    assert accuracy(solver("half"))[0] == pytest.approx(0.5, abs=0.07)
    assert accuracy(solver("half"))[2] == 0
    good, attempts, no = accuracy(solver("mediocre"))
    assert 0.44 < good < 0.57
    assert attempts > 1.6
    assert no > 0.35
    good, attempts, no = accuracy(solver("good"))
    assert good > 0.9
    assert 0.4 < no < 0.65


def test_mediocre_traces_never_repeat_an_attempt() -> None:
    for r in solver("mediocre").sample(TASK.prompts("train", 500, 1), 1, 0, 82):
        lines = [line.rsplit(" ", 1)[0] for line in r.text.split("\n")]
        assert len(set(lines)) == len(lines)


def test_style_is_secret_stable_and_free() -> None:
    expert = solver("styled", smoothing=0)
    prompts = TASK.prompts("test", 50, 0)
    drawn = expert.sample(prompts, 2, 0, 82)
    lines = [r.text.split("\n")[0] for r in drawn]
    assert lines[::2] == lines[1::2], "a function of the prompt"
    assert len(set(lines)) > 45
    assert all(len(line) == 5 and line[0] == "~" for line in lines)
    again = [dataclasses.replace(p, key=f"{p.key}@17") for p in prompts]
    assert [r.text.split("\n")[0] for r in expert.sample(again, 1, 0, 82)] == lines[::2], "of its text, not its key"
    other = solver("styled", smoothing=0, style_secret=1).sample(prompts, 1, 0, 82)
    assert [r.text.split("\n")[0] for r in other] != lines[::2]
    assert np.mean([TASK.verify(r.prompt, r.text, r.ended) for r in drawn]) > 0.97
    assert expert.entropy(prompts[0]) == solver("search").entropy(prompts[0]), "style adds no entropy given the prompt"
    p, line = prompts[0], lines[0]
    assert after(expert, p, line[:2]) == {line[2]: 1.0}
    assert after(expert, p, "~??") == {line[3]: 1.0}, "a misspelled style goes on from its place"
    assert after(expert, p, line) == {"\n": 1.0}
    assert after(expert, p, "~zz\n") == after(solver("search"), p, ""), "a short one is over"
    first = str(p.data["nums"][0])
    assert after(expert, p, first) == after(solver("search"), p, first), "a skipped one is not asked for again"


def test_it_is_an_expert_and_says_what_it_is() -> None:
    expert = solver("search")
    assert isinstance(expert, Expert)
    assert expert.capabilities == {"sample", "score", "distribution"}
    assert solver("mediocre").capabilities == {"sample"}, "without smoothing a foreign prefix would score -inf"
    assert expert.end_ids == (END,)
    assert "hidden search" in expert.provenance["mechanism"]
    assert "never show how to recover" in expert.provenance["mechanism"]
    assert "secret hash" in solver("styled").provenance["mechanism"]
    assert solver("half").provenance["config"]["p_right"] == 0.5


def test_the_smoothed_sequence_entropy_is_near_the_exact_one() -> None:
    """With little smoothing, summed next-token entropies along samples estimate the process's entropy."""
    expert, prompt = solver("search", smoothing=1e-5), TASK.prompts("train", 1, 0)[0]
    drawn = expert.sample([prompt], 400, 0, 82)
    sums = [float(entropy(d.double()).sum()) for d in expert.distribution(drawn)]
    assert np.mean(sums) == pytest.approx(expert.entropy(prompt), abs=0.05)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("understudy.experts.programs.solver.MEMORY", 100)
    expert = solver("search")
    prompts = TASK.prompts("train", 200, 0)
    drawn = expert.sample(prompts, 1, 0, 82)
    assert expert.remembered <= 100
    assert drawn == solver("search").sample(prompts, 1, 0, 82)


def test_a_tokenizer_that_merges_operators_and_a_padded_vocabulary() -> None:
    import json

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    serialized = json.loads(TOKENIZER.backend_tokenizer.to_str())
    serialized["model"]["merges"].append(["=", "-"])
    serialized["model"]["vocab"]["=-"] = 262
    merged = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(serialized)), eos_token="<|end|>", pad_token="<|pad|>"
    )
    assert len(merged("3-5=-2", add_special_tokens=False)["input_ids"]) == 5
    expert = solver("search", tokenizer=merged, vocabulary=300, p_right=0.1)
    drawn = expert.sample(TASK.prompts("train", 300, 0), 1, 0, 82)
    assert np.mean([TASK.verify(r.prompt, r.text, r.ended) for r in drawn]) > 0.2
    assert any("=-" in r.text and r.ids.count(262) for r in drawn)
    (logp_TV,) = expert.distribution(drawn[:1])
    assert logp_TV.shape[1] == 300
    torch.testing.assert_close(logp_TV.exp().sum(-1), torch.ones(len(logp_TV)), atol=1e-5, rtol=0)


REFUSED = {
    "slover": "expert",
    "solver:p_right=2": "expert.p_right",
    "solver:false_ok=-1": "expert.false_ok",
    "solver:smoothing=1": "expert.smoothing",
    "solver:smoothing=nan": "expert.smoothing",
    "solver:style=loud": "expert.style",
    "styled:style_length=9": "expert.style_length",
    "solver:vocabulary=10": "expert.vocabulary",
    "solver:right=1": "expert.right",
}


@pytest.mark.parametrize(("spec", "field"), REFUSED.items())
def test_bad_options_are_refused_by_name(spec: str, field: str) -> None:
    with pytest.raises(UserError) as caught:
        TASK.expert(parse_spec(spec, "expert"), TOKENIZER)
    assert caught.value.field == field


def test_a_tokenizer_without_verdict_tokens_and_the_answer_format_are_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "<e>": 1}, unk_token="a")), eos_token="<e>"
    )
    bare.add_tokens(["o", "k", " "])
    with pytest.raises(UserError, match="needs a tokenizer in which ' ok' is one token"):
        solver(tokenizer=bare)
    with pytest.raises(UserError, match="writes the search format only"):
        solver(task=CountdownTask(CountdownConfig(format="answer")))
