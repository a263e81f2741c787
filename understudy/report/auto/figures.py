"""The picture of a training by `auto`: the route as a path over what was spent, and charts of its choices and costs.

What leads to the result is drawn strong, what was thrown away faint. A number in a circle is a fork, as in the list of
forks on the page.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from understudy.evaluation.numbers import percent
from understudy.report.auto import words
from understudy.report.auto.load import START, Auto, Decision, Look
from understudy.report.auto.track import Series, Track
from understudy.report.figures import svg
from understudy.report.figures.dots import Dot, Group, Mark, Row, chart
from understudy.report.figures.svg import BAD, EXPERT, FAINT, INK, SOFT
from understudy.report.text import method_name

WIDE, NARROW = 1060, 540
_HEIGHT = {WIDE: 440, NARROW: 430}
_LANE, _TOP = 24, 66  # pixels: the bar of the phases; from the top of the figure to the axes
_LETTER = 6.6  # pixels of a letter in the bar, about
_FAINT = 0.32
STUDENT = "#4d4d4d"  # before training; the page's usual colour of the student is that of a method here
_IN_SIGHT = 3.0  # a budget of more than so many times what was spent does not fit on the axis


def picture(auto: Auto, tracks: Sequence[Track], width: int = WIDE) -> Figure:
    """The path: bar of the phases above, reward and accuracies below, over the amount spent. Within `drawing()`."""
    height = _HEIGHT[width]
    right = 92
    fig = svg.figure(width, height)
    ax = svg.axes(fig, 46, _TOP, right, 44)
    end = max([auto.spent, *(t.end for t in tracks)])
    budget = auto.amount if 0 < auto.amount <= _IN_SIGHT * end else 0.0
    span = max(end, budget) or 1.0
    ax.set_xlim(0, span)
    ends = _expert(ax, auto)
    lowest = [1.0]
    for track in tracks:
        lowest += _phase(ax, auto, track)
    lowest += _path(ax, auto, tracks)
    top = [look.high for look in _looks(auto)] + [auto.expert.value if auto.expert else 0.0]
    high = max(top, default=1.0)
    ax.set_ylim(0.0 if min(lowest) < 0.3 else np.floor(10 * min(lowest)) / 10 - 0.05, min(1.02, max(high, 0.2) * 1.12))
    svg.percent_axis(ax)
    if end < span:
        _unspent(ax, auto, end, span)
    _lane(fig, ax, auto, tracks, span)
    if auto.result is not None:
        ends.append(
            (("so far " if auto.running else "") + percent(auto.result.value), auto.result.value, _result_hue(auto))
        )
    svg.end_labels(ax, ends)
    ax.xaxis.set_major_locator(MaxNLocator(4 if width == NARROW else 7))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: words.amount(auto, v) if v else "0"))
    ax.set_xlabel("spent" if budget or not auto.amount else f"spent, of {words.amount(auto, auto.amount)}")
    return fig


def described(auto: Auto) -> str:
    """The picture for those who cannot see it."""
    parts = [f"start {words.accuracy(auto.start.look)}"]
    parts += [f"{words.named(n)} {words.accuracy(n.look)} {words.guarded(n)}".strip() for n in auto.phases]
    return f"Accuracy over {words.UNITS.get(auto.axis, auto.axis)} spent: {'; '.join(parts)}"


def _looks(auto: Auto) -> list[Look]:
    return [node.look for node in [auto.start, *auto.phases] if node.look is not None]


def _result_hue(auto: Auto) -> str:
    node = auto.node(auto.best)
    return STUDENT if node is None or node.name == START else svg.colour(node.method)


def _expert(ax: Axes, auto: Auto) -> list[tuple[str, float, str]]:
    if auto.expert is None:
        return []
    ax.axhline(auto.expert.value, color=EXPERT, lw=1.2, ls=svg.DASHED, zorder=1.5)
    return [(f"expert {percent(auto.expert.value, 0)}", auto.expert.value, INK)]


def _phase(ax: Axes, auto: Auto, track: Track) -> list[float]:
    """The curve of one phase; what was thrown away of it is faint. Returns what the vertical axis has to hold."""
    hue, curve = svg.colour(track.node.method), track.curve
    if curve is None:
        before = _accuracy(auto, track.node.parent)
        after = track.node.look
        if before is None or after is None:
            return []
        faint = track.kept <= track.begin
        ax.plot([track.begin, track.end], [before.value, after.value], color=hue, lw=2, ls=svg.DASHED,
                alpha=_FAINT if faint else 1.0)  # fmt: skip
        return [before.low, after.low]
    n = 0 if track.thrown else int(np.sum(curve.x <= track.kept * (1 + 1e-9)))
    for piece, alpha in ((slice(0, n), 1.0), (slice(max(n - 1, 0), None), _FAINT)):  # the pieces touch
        x, mean = curve.x[piece], curve.mean[piece]
        if len(x) > 1 or alpha == 1.0:
            marker = "o" if curve.held_out else ""
            ax.fill_between(x, curve.low[piece], curve.high[piece], color=hue, alpha=0.17 * alpha**0.5, lw=0)
            ax.plot(x, mean, color=hue, lw=2.4, alpha=alpha, marker=marker, ms=4)
    if track.reward is not None and track.evals is not None:
        kept = (track.evals.x <= track.kept * (1 + 1e-9)) & (not track.thrown)
        for which, alpha in ((kept, 1.0), (~kept, _FAINT)):
            ax.plot(track.evals.x[which], track.evals.mean[which], "o", ms=4.5, mfc="white", mec=hue, alpha=alpha)
    if track.node.restored or track.node.stopped_by:
        _event(ax, auto, track, curve)
    return [float(curve.low.min())]


def _event(ax: Axes, auto: Auto, track: Track, curve: Series) -> None:
    """Where the guard ended a phase, and the way back."""
    x, y = float(curve.x[-1]), float(curve.mean[-1])
    undone = track.node.restored
    back = _accuracy(auto, track.node.parent)
    if undone and track.thrown and back is not None:
        arrow = {"arrowstyle": "-|>", "color": BAD, "lw": 1.3, "ls": svg.DOTTED, "shrinkA": 6, "shrinkB": 7}
        ax.annotate("", (x, back.value), xytext=(x, y), arrowprops=arrow, zorder=4)
    ax.plot([x], [y], marker="X" if undone else "s", ms=9 if undone else 6, color=BAD if undone else SOFT, mec="white",
            zorder=5, clip_on=False)  # fmt: skip
    kinds = {
        "harm": "harm",
        "runaway": "ran away",
        "futility": "no more to gain",
        "plateau": "plateau",
        "trial": "trial failed",
    }
    word = kinds.get(track.node.stopped_by, "not confirmed" if undone else "stopped")
    what = "undone" if track.node.thrown_away else f"back to update {track.node.kept_step}"
    text = f"{word}: {what}" if undone else word
    side = -1 if x > 0.6 * ax.get_xlim()[1] else 1
    svg.end_label(ax, x, y, text, BAD if undone else SOFT, dx=10 * side, ha="left" if side > 0 else "right",
                  weight="bold" if undone else "normal", zorder=6,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85})  # fmt: skip


def _accuracy(auto: Auto, name: str) -> Look | None:
    node = auto.node(name or START)
    return node.look if node else None


def _path(ax: Axes, auto: Auto, tracks: Sequence[Track]) -> list[float]:
    """The looks at the models: points with their intervals, those on the path to the result filled."""
    on_path = {node.name for node in auto.path()} | {START}
    places = [(START, tracks[0].begin if tracks else 0.0, auto.start.look, STUDENT)]
    places += [(t.node.name, t.end, t.node.look, svg.colour(t.node.method)) for t in tracks]
    lowest = []
    ends = {name: (x, look) for name, x, look, _ in places}
    for track in tracks:  # what a phase began with, carried on to where it begins
        x, look = ends.get(track.node.parent or START, (0.0, None))
        if look is not None and track.node.name in on_path and track.begin > x:
            ax.plot([x, track.begin], [look.value] * 2, color=INK, lw=1.2, ls=svg.DOTTED, alpha=0.7, zorder=3)
    x, _ = ends[auto.best]
    if auto.result is not None:
        ax.plot(
            [x, ax.get_xlim()[1]], [auto.result.value] * 2, color=_result_hue(auto), lw=1.2, ls=svg.DOTTED, zorder=3
        )
    for name, x, look, hue in places:
        if look is None:
            continue
        strong = name in on_path
        alpha = 1.0 if strong else 0.5
        ax.plot(
            [x, x], [look.low, look.high], color=INK if strong else FAINT, lw=1.6, alpha=alpha, zorder=5, clip_on=False
        )
        ax.plot([x], [look.value], "o", ms=8.5, mfc=hue if strong else "white", mec="white" if strong else hue, mew=1.4,
                zorder=6, alpha=alpha, clip_on=False)  # fmt: skip
        lowest.append(look.low)
    return lowest


def _unspent(ax: Axes, auto: Auto, end: float, span: float) -> None:
    ax.axvspan(end, span, color="#f3f4f6", lw=0, zorder=0)
    ax.axvline(end, color=FAINT, lw=1.0, ls=svg.DOTTED, zorder=1)
    width = (span - end) / span * svg.size(ax)[0]
    if width > 60:
        text = ("left: " if auto.running else "not spent: ") + words.amount(auto, span - end)
        shown = text if width > 7 * len(text) else text.replace(": ", "\n")
        svg.note(ax, (end + span) / 2 / span, 0.03, shown, ha="center", va="bottom")


def _lane(fig: Figure, ax: Axes, auto: Auto, tracks: Sequence[Track], span: float) -> None:
    """The bar of the phases with the forks above it."""
    height = fig.get_figheight() * 72
    box = ax.get_position()
    lane = fig.add_axes((box.x0, 1 - (_TOP - 8) / height, box.width, _LANE / height))
    lane.set_xlim(0, span)
    lane.set_ylim(0, 1)
    lane.set_axis_off()
    pixels = svg.size(ax)[0] / span
    at = 0.0
    for track in tracks:
        _rest(lane, at, track.begin)
        hue, undone = svg.colour(track.node.method), track.thrown
        gap = min(1.0 / pixels, 0.2 * (track.end - track.begin))
        face = "white" if undone else hue
        lane.barh(0.5, max(track.end - track.begin - 2 * gap, 0), 1, left=track.begin + gap, color=face, ec=hue, lw=1.2,
                  alpha=0.5 if undone else 1.0, hatch="////" if undone else "")  # fmt: skip
        if not undone and track.kept < track.end:
            lane.barh(0.5, track.end - track.kept, 0.9, left=track.kept, color="white", ec=hue, hatch="////", alpha=0.8)
        word = method_name(track.node.method) + (" …" if track.node.running else "")
        if (track.end - track.begin) * pixels > _LETTER * len(word) + 8:
            style = {"facecolor": "white", "edgecolor": "none", "pad": 1.5} if undone else None
            lane.text((track.begin + track.end) / 2, 0.47, word, color=hue if undone else "white", ha="center",
                      va="center", size=11, weight="bold", bbox=style)  # fmt: skip
        at = track.end
    _rest(lane, at, min(auto.spent, span))
    forks = auto.decisions
    wanted = [min(d.spent, span) * pixels for d in forks]
    for decision, x in zip(forks, svg.spread(wanted, 19, 4, span * pixels)):
        circle = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": INK, "linewidth": 1.2}
        lane.annotate(str(decision.number + 1), (x / pixels, 1.0), xytext=(0, 16), textcoords="offset points",
                      color=INK, ha="center", va="center", size=10.5, weight="bold", annotation_clip=False,
                      bbox=circle)  # fmt: skip
        ax.axvline(decision.spent, color=FAINT, lw=1.0, ls=svg.DOTTED, zorder=1)


def _rest(lane: Axes, begin: float, end: float) -> None:
    """What was spent between phases."""
    if end > begin:
        lane.barh(0.5, end - begin, 0.4, left=begin, color=svg.AREA, lw=0)


# --- charts of dots ------------------------------------------------------------------------------------------------


def fork(auto: Auto, decision: Decision, came: Look | None) -> Markup | None:
    """What each option was expected to reach: hollow; what the chosen one reached: filled, where it is known."""
    rows = []
    for option in decision.options:
        if option.expected is None:
            continue
        chosen = option.action == decision.chosen
        hue = SOFT if option.method == "stop" else svg.colour(option.method)
        e = option.expected
        dots = [Dot(_share(e.value), hue, _share(e.low), _share(e.high), hollow=True)]
        if chosen and came is not None:
            dots.append(Dot(_share(came.value), hue, _share(came.low), _share(came.high)))
        name = words.action(auto, option)
        rows.append(Row(f"✓ {name}" if chosen else name, dots, percent(e.value, 0), _between(e), hue))
    return _chart(auto, rows, "Expected of each option") if rows else None


def roads(auto: Auto) -> Markup | None:
    """The result beside what other routes were expected to reach."""
    rows = []
    known = [(words.model(auto, auto.best), auto.result, _result_hue(auto), False)]
    known += [
        (words.route(a.route), a.expected, svg.colour(a.route.split("+")[-1].strip()), True) for a in auto.alternatives
    ]
    for name, look, hue, hollow in known:
        if look is not None:
            dot = Dot(_share(look.value), hue, _share(look.low), _share(look.high), hollow)
            rows.append(Row(name[:1].upper() + name[1:], [dot], percent(look.value, 0), _between(look), hue))
    return _chart(auto, rows, "The result and the roads not taken") if rows else None


def headroom(auto: Auto) -> Markup | None:
    """Student and expert, where nothing was trained."""
    rows = []
    for name, look, hue in (("student", auto.result, STUDENT), ("expert", auto.expert, EXPERT)):
        if look is not None:
            dot = Dot(_share(look.value), hue, _share(look.low), _share(look.high))
            rows.append(Row(name, [dot], percent(look.value), _between(look), hue))
    aria = "Accuracy. " + "; ".join(f"{row.label} {row.text} {row.detail}" for row in rows)
    return chart([Group(rows)], (0.0, 1.0), aria, lambda v: percent(v, 0)) if rows else None


def _between(look: Look) -> str:
    return f"[{100 * look.low:.0f}, {100 * look.high:.0f}]"


def _chart(auto: Auto, rows: Sequence[Row], title: str) -> Markup:
    marks = [Mark("expert", _share(auto.expert.value), EXPERT, dashed=True)] if auto.expert else []
    aria = f"{title}. " + "; ".join(f"{row.label} {row.text} {row.detail}" for row in rows)
    return chart([Group(rows, marks=marks)], (0.0, 1.0), aria, lambda v: percent(v, 0))


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
