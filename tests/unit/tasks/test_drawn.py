"""Sorting, paths and chains: walls, verifiers, and experts whose samples follow exactly what they score."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import UserError
from understudy.specs import parse_spec
from understudy.tasks import load_task
from understudy.tasks.generated import DrawnTask
from understudy.types import Prompt, Rollout

SPECS = (
    "sort", "sort:symbols=digits,length=5,alphabet=8", "path", "path:arms=2,reach=2,oriented=false",
    "chain:steps=3,aligned=true", "chain:format=direct,steps=2",
)  # fmt: skip
EXPERTS = ("solver", "careless", "checker", "half", "lure", "secret", "styled", "mediocre:smoothing=0.01")
each_task = pytest.mark.parametrize("spec", SPECS)

SORT = Prompt("sort x", "dbcab\n", {"symbols": "dbcab"})
PATH = Prompt("path x", "ca,ab,cd,de/cb\n", {"edges": ("ca", "ab", "cd", "de"), "way": "cab"})
CHAIN = Prompt("chain x", "3+5*2-6\n", {"numbers": "3526", "ops": "+*-"})


@cache
def loaded(spec: str) -> Any:
    return load_task(spec)


def expert(spec: str, text: str) -> Any:
    task = loaded(spec)
    return task.expert(parse_spec(text, "expert"), task.tokenizer())


def rollout(prompt: Prompt, text: str, ended: bool = True) -> Rollout:
    tokenizer = loaded("sort").tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] * ended
    return Rollout(prompt, 0, tuple(ids), (0.0,) * len(ids), ended, text, "student")


def law(spec: str, text: str, prompt: Prompt, written: str) -> dict[str, float]:
    """Symbol -> probability of what the expert writes after `written`, before smoothing; "" is the end."""
    e = expert(spec, text)
    walk = e.walk(prompt)
    for token in loaded(spec).tokenizer()(written, add_special_tokens=False)["input_ids"]:
        walk.push(token)
    return {"" if t == e.end else e.symbols[t]: p for t, p in zip(*walk.next())}


# ---------------------------------------------------------------- problems and verifiers


@each_task
def test_streams_are_functions_of_their_names_and_keep_the_wall(spec: str) -> None:
    task, again = loaded(spec), load_task(spec)
    assert isinstance(task, DrawnTask)
    seen = {}
    for split in task.splits:
        whole = task.prompts(split, 120, seed=3)
        assert again.prompts(split, 20, seed=3, start=100) == whole[100:]
        assert task.prompts(split, 120, seed=4) != whole
        assert all(task.verify(p, task.gold(p), True) == 1.0 for p in whole)
        assert all(p.key.startswith(f"{task.name} ") for p in whole)
        seen[split] = {task.problem(p.data) for p in task.prompts(split, 500, seed=5)}
    assert not seen["train"] & (seen["test"] | seen["ood"])
    assert not seen["test"] & seen["ood"]
    test = task.prompts("test", min(300, len(seen["test"])), seed=0)
    assert len({p.key for p in test}) == len(test), "each once before any comes back"


@each_task
@settings(max_examples=40)
@given(text=st.one_of(st.text(), st.text(alphabet="0123456abcdefgh=+-*<\n~٣", max_size=40)), ended=st.booleans())
def test_the_verifier_never_raises_and_gold_is_short(spec: str, text: str, ended: bool) -> None:
    task = loaded(spec)
    prompt = task.prompts("test", 1, seed=0)[0]
    assert task.verify(prompt, text, ended) in (0.0, 1.0)
    assert task.verify(prompt, text * 1000 + "x", ended) == 0.0
    assert len(task.tokenizer()(task.gold(prompt))["input_ids"]) < task.max_new_tokens


@pytest.mark.parametrize(
    ("spec", "prompt", "text", "reward"),
    [
        ("sort", SORT, "abbcd", 1), ("sort", SORT, "ac<bbcd", 1), ("sort", SORT, "~xy\nabbcd", 1),
        ("sort", SORT, "abcbd", 0), ("sort", SORT, "abbc", 0), ("sort", SORT, "abbcdd", 0),
        ("sort", SORT, "<abbcd", 0), ("sort", SORT, "abbcd\n", 0), ("sort", SORT, "aa<<aa<<a" + "abbcd", 0),
        ("path", PATH, "cab", 1), ("path", PATH, "cdcab", 1), ("path", PATH, "cdedcab", 1),
        ("path", PATH, "~z\ncab", 1),
        ("path", PATH, "cb", 0), ("path", PATH, "ab", 0), ("path", PATH, "cabx", 0), ("path", PATH, "cde", 0),
        ("path", PATH, "caba", 0), ("path", PATH, "", 0), ("path", PATH, "ccab", 0), ("path", PATH, "ca,ab", 0),
        ("chain", CHAIN, "3+5=1\n1*2=2\n2-6=3", 1), ("chain", CHAIN, "3+5=2<1\n1*2=2\n2-6=3", 1),
        ("chain", CHAIN, "~q\n3+5=1\n1*2=2\n2-6=3", 1), ("chain", CHAIN, "3+5=1\n1*2=2\n2-6=4", 0),
        ("chain", CHAIN, "3+5=2\n2*2=4\n4-6=5", 0), ("chain", CHAIN, "3+5=1\n2-6=3", 0),
        ("chain", CHAIN, "3+5=1\n1*2=2\n2-6=", 0), ("chain", CHAIN, "3+5=1\n1*3=2\n2-6=3", 0), ("chain", CHAIN, "3", 0),
        ("chain", CHAIN, "3+5=1\n1*2=2\n2-6=٣", 0), ("chain:format=direct", CHAIN, "3", 1),
        ("chain:format=direct", CHAIN, "4<3", 1), ("chain:format=direct", CHAIN, "33", 0),
        ("chain:format=direct", CHAIN, "<3", 0), ("chain:format=direct", CHAIN, "", 0),
    ],
)  # fmt: skip
def test_what_is_accepted(spec: str, prompt: Prompt, text: str, reward: float) -> None:
    assert loaded(spec).verify(prompt, text, True) == reward
    assert loaded(spec).verify(prompt, text, False) == 0.0


def test_sizes_are_what_the_options_say() -> None:
    assert {len(p.data["symbols"]) for p in loaded("sort").prompts("ood", 20, 0)} == {7}
    assert {len(p.data["edges"]) for p in loaded("path").prompts("ood", 20, 0)} == {12}
    for p in loaded("path").prompts("train", 50, 0):
        assert Counter(Counter("".join(p.data["edges"])).values()) == {1: 3, 2: 6, 3: 1}, "a star of three arms"
    steps = load_task("chain")
    lengths = {len(steps.gold(p)) for p in steps.prompts("test", 20, 0)}
    assert lengths == {8 * 6 - 1}, "long completions with the usual options"
    for p in loaded("chain:steps=3,aligned=true").prompts("train", 20, 0):
        gold = loaded("chain:steps=3,aligned=true").gold(p)
        assert [p.text[1 + 6 * i : 3 + 6 * i] for i in range(3)] == [gold[1 + 6 * i : 3 + 6 * i] for i in range(3)]
    assert not any("*0" in p.text for p in steps.prompts("train", 300, 0)), "nothing is forgotten"


# ---------------------------------------------------------------- experts


@each_task
def test_every_prefix_has_a_distribution_and_scores_are_its_entries(spec: str) -> None:
    task = loaded(spec)
    prompts = task.prompts("test", 2, 0)
    strange = [rollout(p, mess) for p in prompts for mess in ("zz<<<=9 ok\n~a", task.gold(p)[::-1], task.gold(p) * 2)]
    for text in EXPERTS:
        e = expert(spec, text)
        own = e.sample(prompts, 2, 0, task.max_new_tokens)
        for r, table, score in zip([*own, *strange], e.distribution([*own, *strange]), e.score([*own, *strange])):
            assert torch.logsumexp(table, -1).abs().max() < 1e-4
            acted = table[torch.arange(len(r.ids)), torch.tensor(r.ids)]
            assert torch.allclose(acted, score, atol=1e-4)
            if r.actor == "expert":
                assert torch.allclose(torch.tensor(r.behavior_logp), score, atol=1e-4), "it samples what it scores"


@each_task
@pytest.mark.parametrize(("text", "share"), [("solver:p_right=1", 1.0), ("half", 0.5), ("lure", 0.4), ("checker", 1.0)])
def test_completions_are_right_as_often_as_stated(spec: str, text: str, share: float) -> None:
    e, task, n = expert(spec, f"{text}{',' if ':' in text else ':'}smoothing=0"), loaded(spec), 300
    rollouts = task.verify_all(e.sample(task.prompts("train", n, 1), 1, 0, task.max_new_tokens))
    right = sum(r.reward for r in rollouts) / n
    if text == "checker":  # limited by the room for corrections alone
        assert right > 0.9
        assert any(r.text != task.gold(r.prompt) for r in rollouts), "it shows how to recover"
    elif share == 1:
        assert [r.text for r in rollouts] == [task.gold(r.prompt) for r in rollouts]
    else:  # chance may make a slip harmless, which the flawless text does not count
        flawless = sum(r.text == task.gold(r.prompt) for r in rollouts) / n
        assert flawless == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / n))
        assert flawless <= right <= flawless + 0.1


@pytest.mark.parametrize(("spec", "prompt"), [("sort", SORT), ("path", PATH), ("chain:format=direct", CHAIN)])
def test_samples_follow_the_distribution(spec: str, prompt: Prompt) -> None:
    n, e = 2000, expert(spec, "checker:notice=0.5")
    counts = Counter(r.ids[:2] for r in e.sample([prompt], n, 0, 2))
    frequent = [(ids, count) for ids, count in counts.items() if count >= 20]
    assert len(frequent) >= 2
    for ids, count in frequent:
        r = Rollout(prompt, 0, ids, (0.0,) * len(ids), False, "", "student")
        p = math.exp(float(e.score([r])[0].sum()))
        assert count / n == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n) + 1e-9)


def test_a_mistake_of_the_students_is_taken_back_or_not() -> None:
    assert law("sort", "solver", SORT, "ac") == {"<": 1.0}
    assert law("sort", "solver", SORT, "acb") == {"<": 1.0}, "with all that stands after it"
    assert law("sort", "solver:p_right=1", SORT, "ac<") == {"b": 1.0}
    assert law("sort", "careless:p_right=1", SORT, "ac") == {"b": 1.0}
    assert law("sort", "careless:p_right=1", SORT, "acbbd") == {"": 1.0}
    assert law("sort", "solver:notice=0.25,p_right=1", SORT, "ac") == {"b": 0.75, "<": 0.25}
    assert law("sort", "solver:notice=0.25,p_right=1", SORT, "acb<") == {"<": 1.0}, "once begun, it goes on"
    assert law("path", "solver", PATH, "cde") == {"d": 1.0}
    assert law("path", "solver:p_right=1", PATH, "cdedc") == {"a": 1.0}
    assert law("path", "careless", PATH, "cd") == {"e": 1.0}
    assert law("path", "careless", PATH, "cde") == {"": 1.0}
    assert law("path", "solver:p_right=1", PATH, "cb") == {"": 1.0}, "no edge: on from there, here the goal"
    assert law("chain", "solver", CHAIN, "3+5=2") == {"<": 1.0}
    assert law("chain", "careless", CHAIN, "3+5=2\n") == {"2": 1.0}, "it carries the mistake on"
    assert law("chain", "careless:p_right=1", CHAIN, "3+5=2\n2*2=") == {"4": 1.0}
    assert law("chain", "solver:p_right=1", CHAIN, "3+5=2<") == {"1": 1.0}


def test_where_and_how_it_slips() -> None:
    half = law("sort", "half", SORT, "")
    assert half["a"] == pytest.approx(0.5 ** (1 / 4)), "four places where something else is left"
    assert half["b"] == half["c"] == half["d"] == pytest.approx((1 - half["a"]) / 3)
    assert law("sort", "half", SORT, "abbc") == {"d": 1.0}, "nothing else is left"
    lure = law("chain", "lure", CHAIN, "3+5=")
    assert lure == pytest.approx({"1": 0.4, "2": 0.6})
    assert max(lure, key=lambda s: lure[s]) != "1", "the likeliest text is wrong"
    assert law("chain", "lure", CHAIN, "3+5=1\n1*2=") == {"2": 1.0}, "at the first choice only"
    assert law("path", "half", PATH, "c") == {"a": 0.5, "d": 0.5}


def test_secrets_depend_on_the_prompt_alone() -> None:
    task, secret, styled = loaded("path"), expert("path", "secret"), expert("path", "styled")
    prompts = task.prompts("train", 200, 0)
    slips = 0
    for p in prompts:
        first = law("path", "secret", p, p.data["way"][0])
        assert list(first.values()) == [1.0], "certain"
        slips += first != {p.data["way"][1]: 1.0}
    assert slips / 200 == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 200))
    lines = {p.key: r.text.split("\n")[0] for p in prompts[:20] for r in styled.sample([p], 1, 1, 6)}
    assert len(set(lines.values())) > 15
    assert secret.provenance["realizable"] is styled.provenance["realizable"] is False


def test_what_the_experts_say_about_themselves() -> None:
    assert expert("sort", "solver").provenance["realizable"] is None
    assert expert("chain", "solver").provenance["realizable"] is None
    assert expert("path", "solver").provenance["realizable"] is False
    assert expert("chain:format=direct", "solver").provenance["realizable"] is False
    assert "recovery" in expert("path", "careless").provenance["mechanism"]
    assert expert("sort", "mediocre").capabilities == {"sample"}


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("sort:symbols=x", "task.symbols"), ("sort:symbols=digits,alphabet=11", "task.alphabet"),
        ("sort:length=1", "task.length"), ("sort:ood_length=6", "task.ood_length"),
        ("sort:corrections=-1", "task.corrections"), ("sort:colour=red", "task.colour"),
        ("path:arms=1", "task.arms"), ("path:arms=4,reach=6", "task.reach"), ("path:ood_reach=3", "task.ood_reach"),
        ("path:ood_reach=9", "task.ood_reach"), ("path:letters=12", "task.letters"),
        ("chain:format=x", "task.format"), ("chain:steps=0", "task.steps"),
        ("chain:ops=%", "task.ops"), ("chain:ops=++", "task.ops"), ("chain:modulus=11", "task.modulus"),
        ("chain:ood_steps=8", "task.ood_steps"), ("chain:test_share=1", "task.test_share"),
        ("sort:length=2,alphabet=2,test_share=1e-9", "task.test_share"),
    ],
)  # fmt: skip
def test_mistakes_name_their_field(spec: str, field: str) -> None:
    with pytest.raises(UserError) as error:
        load_task(spec)
    assert error.value.field == field


def test_unknown_splits_and_experts_are_refused() -> None:
    for spec in ("sort", "path", "chain"):
        with pytest.raises(UserError):
            loaded(spec).prompts("validation", 1, 0)
        for text in ("labeller", "solver:p_right=2", "solver:notice=x"):
            with pytest.raises(UserError):
                expert(spec, text)
