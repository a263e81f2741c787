"""How amounts, models and choices are written, and the finding in sentences."""

from __future__ import annotations

from understudy.evaluation.numbers import DASH, count, duration, large, percent, points
from understudy.report.auto.load import KINDS, START, STOP, Alternative, Auto, Cost, Look, Node, Option
from understudy.report.text import label, listed, method_name

UNITS = {"flops": "FLOPs", "updates": "updates", "train_seconds": "time of training", "money": "money"}
_CURRENCIES = "$€£¥"
MANY = 3  # alternatives that the finding names


def amount(auto: Auto, value: float | None) -> str:
    """An amount of the budget's axis with its unit: "3.5 PFLOPs", "$12.40", "2.0 h", "120 updates"."""
    if value is None:
        return DASH
    if auto.axis == "money":
        return money(auto, value)
    if auto.axis == "flops":
        shown = large(value, " ")
        return f"{shown}FLOPs" if shown[-1:].isalpha() else f"{shown} FLOPs"
    if auto.axis.endswith("seconds"):
        return duration(value)
    return f"{count(value)} {label(auto.axis, 40).replace('_', ' ')}"


def money(auto: Auto, value: float | None) -> str:
    if value is None:
        return DASH
    sign = next((c for c in str(auto.setting.get("budget") or "") if c in _CURRENCIES), "$")
    return f"{sign}{value:,.2f}"


def of_budget(auto: Auto, value: float) -> str:
    """ "24%"; empty where the budget is not known."""
    if auto.amount <= 0:
        return ""
    share = 100 * value / auto.amount
    return f"{share:.0f}%" if share >= 0.95 or share == 0 else f"{share:.1f}%"


def model(auto: Auto, name: str) -> str:
    """The model of a node: "the student" or the phases that led to it, "SFT → GKD"."""
    if name == START:
        return "the student"
    return " → ".join(method_name(node.method) for node in auto.path(name)) or label(name)


def action(auto: Auto, option: Option | None, text: str = "") -> str:
    """A choice in words: "GKD after SFT", "stop". text: what is known of a choice without its option."""
    if option is None:
        return label(text or "?", 80)
    if option.method == STOP:
        return "stop"
    if not option.method:
        return label(option.action, 80)
    after = "from the student" if option.parent in (START, "") else f"after {model(auto, option.parent)}"
    return f"{method_name(option.method)} {after}"


def route(text: str) -> str:
    """A route as the command line has it, "sft+gkd:100", in words."""
    return " → ".join(method_name(part.strip().replace(":", " ")) for part in text.split("+")) if text else "?"


def part(auto: Auto, cost: Cost) -> str:
    """The name of a part of the costs: of a phase its method."""
    node = auto.node(cost.part.removeprefix("phases/"))
    if node is None or node.name == START:
        return label(cost.part, 60)
    return named(node)


def named(node: Node) -> str:
    """A phase: "SFT (phase 1)"."""
    head = node.name.split("-", 1)[0]
    return method_name(node.method or node.name) + (f" (phase {int(head) + 1})" if head.isdecimal() else "")


def accuracy(look: Look | None, digits: int = 1) -> str:
    """ "63.0% [58.8, 67.2]" """
    if look is None:
        return DASH
    between = f" [{100 * look.low:.{digits}f}, {100 * look.high:.{digits}f}]" if look.low < look.high else ""
    return percent(look.value, digits) + between


def guarded(node: Node) -> str:
    """What the guard did to a phase, in a few words; empty where nothing is known."""
    state, why = str(node.guard.get("state") or ""), KINDS.get(node.stopped_by, "")
    if node.running or not state:
        return ""
    if node.restored:
        why = why or ("not shown to be as good as its start" if node.thrown_away else "an earlier model was better")
        return f"{_undone(node)}: {why}"
    if state == "kept":
        return f"stopped early and kept: {why}" if why else "kept"
    return f"guard {label(state, 20)}"


def _undone(node: Node) -> str:
    return "undone" if node.thrown_away else f"undone back to update {node.kept_step}"


# --- the finding ---------------------------------------------------------------------------------------------------


def finding(auto: Auto) -> list[str]:
    """What was done and what it gave; what it cost; what was undone; why it stopped; the roads not taken."""
    lines = [_done(auto), _cost(auto), _tried(auto), _stopped(auto), _alternatives(auto)]
    return [line for line in lines if line]


def _done(auto: Auto) -> str:
    start, result, route = auto.start.look, auto.result, model(auto, auto.best)
    if auto.running:
        now = next((node for node in auto.phases if node.running), None)
        doing = f"{named(now)} is being trained" if now else "The next phase is being chosen"
        best = (
            f"; the best model so far is {route}"
            if auto.best != START
            else "; the student as it was is the best so far"
        )
        return f"{doing}{best}{_at(result)}."
    if auto.best == START:
        what = "No phase was trained" if not auto.phases else f"{_phases(auto.phases)} did not help"
        expert = f"; the expert has {percent(auto.expert.value)}" if auto.expert else ""
        return f"{what}: the student stays as it was{_at(result)}{expert}."
    if result is None:
        return f"{route} was trained; its accuracy is not known."
    gain = f" from {percent(start.value)}" if start else ""
    expert = f"; the expert has {percent(auto.expert.value)}" if auto.expert else ""
    return f"{route} took the student{gain} to {_interval(result)}{expert}."


def _phases(nodes: list[Node]) -> str:
    return listed(list(dict.fromkeys(method_name(node.method) for node in nodes)))


def _interval(look: Look) -> str:
    between = f" (95% interval {percent(look.low)} to {percent(look.high)})" if look.low < look.high else ""
    return percent(look.value) + between


def _at(look: Look | None) -> str:
    return f" at {_interval(look)}" if look else ""


def _cost(auto: Auto) -> str:
    share = of_budget(auto, auto.spent)
    of = f" of {amount(auto, auto.amount)} ({share})" if share else ""
    seconds = [cost.seconds for cost in auto.costs if cost.seconds is not None]
    time = f" and {duration(sum(seconds))}" if seconds and not auto.axis.endswith("seconds") else ""
    line = f"It {'has cost at least' if auto.running else 'cost'} {amount(auto, auto.spent)}{of}{time}"
    evidence = evidence_cost(auto)
    if evidence > 0 and auto.spent > 0 and auto.phases:
        line += f"; {100 * evidence / auto.spent:.0f}% of it was for evidence, not for training"
    return line + "."


def evidence_cost(auto: Auto) -> float:
    """What was spent beside the phases: looks and probes."""
    names = {node.name for node in auto.phases}
    return sum(cost.amount for cost in auto.costs if cost.part.removeprefix("phases/") not in names)


def _tried(auto: Auto) -> str:
    parts = []
    for node in auto.phases:
        if node.restored:
            why = KINDS.get(node.stopped_by, "")
            because = f" because {why}" if why else ""
            parts.append(f"{named(node)} was {_undone(node)}{because}, after {amount(auto, node.spent)}")
    line = "; ".join(parts)
    return f"{line}." if line else ""


def _stopped(auto: Auto) -> str:
    if not auto.reason or auto.running:
        return ""
    return f"It stopped here: {label(auto.reason, 300).rstrip('.')}."


def _alternatives(auto: Auto) -> str:
    if not auto.alternatives:
        return ""
    best = sorted(auto.alternatives, key=lambda a: -a.expected.value)
    names = listed([f"{route(a.route)} {accuracy(a.expected, 0)}" for a in best[:MANY]])
    return f"Expected of the roads not taken: {names}.{_against(auto, best[0])}"


def _against(auto: Auto, best: Alternative) -> str:
    if auto.result is None or auto.running:
        return ""
    gap = best.expected.value - auto.result.value
    if gap <= 0:
        return " None was expected to do better."
    return f" The best of them was expected to end {points(gap).lstrip('+')} points higher."
