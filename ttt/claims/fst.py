"""The claims of Fast-Slow Training (arXiv 2605.12484) beside the figures of runs: ttt-compare FOLDER --claims.

Each method with prompts is compared with reinforcement learning alone (adapter=none) on the same tasks, bases and
seeds; of the baselines that ran most of its seeds with the one that learned most on them, so that none is a straw man
where it comes to learning. One that learns less may forget and drift less: what is kept is asked at equal success
where that can be had (one task), and else of the same baseline as the rest.
The seed is the unit. A difference is a mean over seeds, a ratio a geometric mean, both with a 95 % t-interval. A claim
holds where the interval lies beyond no effect on the side of the claim, does not where it lies on the other, else it is
not resolved. A level that one of the two never reaches counts as reached when its run ends: the ratio is a bound, which
resolves nothing in favour of the one that never did. How many did is told. A seed in which neither reaches it is left
out, and so is RL's best where that is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ttt.claims.series import Series, Values, at_level, reached
from ttt.claims.settings import Method, Setting, settings_of
from ttt.compare.groups import at_moment
from ttt.compare.runs import Run
from ttt.compare.table import Cell, Sheet
from ttt.metrics.seeds import Interval, t_interval

# Success rates at which distances from the base are compared.
GRID = np.arange(0.1, 0.91, 0.1)
# Evaluations at the end that an asymptote is a mean over.
LAST = 5
# A best success of RL below this is no level.
LEAST = 0.05

# (ours, baseline) of one seed -> a figure
Figure = Callable[[Series, Series], float]


@dataclass(frozen=True)
class Claim:
    """`sign`: the side of no effect on which the claim lies. `is_ratio`: a base-2 logarithm."""

    words: str
    figure: Figure
    sign: int
    is_ratio: bool = False


def needed(series: Series, level: float, *, rollouts: bool) -> float:
    """At least one step's worth: a prompt may do it before the first."""
    steps = max(min(reached(series.steps, series.success, level), float(series.steps[-1])), 1.0)
    return series.rollouts(steps) if rollouts else steps


@dataclass(frozen=True)
class Sooner:
    """log2 of what the baseline needs to reach a success over what we need; None: the baseline's own best. NaN where
    that is nothing, or neither reaches it, or nothing was measured between begin and end: that says nothing."""

    level: float | None
    rollouts: bool

    def __call__(self, ours: Series, theirs: Series) -> float:
        goal = self._goal(theirs)
        few = min(len(ours.steps), len(theirs.steps)) < 3
        if few or goal < LEAST or not any(self.reached(ours, theirs)):
            return math.nan
        return math.log2(needed(theirs, goal, rollouts=self.rollouts) / needed(ours, goal, rollouts=self.rollouts))

    def reached(self, ours: Series, theirs: Series) -> tuple[bool, bool]:
        return bool(ours.success.max() >= self._goal(theirs)), bool(theirs.success.max() >= self._goal(theirs))

    def _goal(self, theirs: Series) -> float:
        return float(theirs.success.max()) if self.level is None else self.level


def cut(mode: str | None, quantity: str) -> Figure:
    """The share of the baseline's distance from the base that is saved at equal success; median over levels that both
    reach. `mode` None: each behind its own prompt."""

    def figure(ours: Series, theirs: Series) -> float:
        pairs = [
            [at_level(one.success, one.of(mode or one.own, quantity), level) for one in (ours, theirs)]
            for level in GRID
        ]
        shares = [1 - mine / other for mine, other in pairs if mine == mine and other == other and other > 0]
        return float(np.median(shares)) if shares else math.nan

    return figure


def gain(metric: str, *, own: bool = True, mode: str = "slow") -> Figure:
    """Ours minus the baseline's metric, in the run's own mode, or in `mode` against the baseline's slow."""

    def figure(ours: Series, theirs: Series) -> float:
        first = ours.run.metric(f"{ours.own if own else mode}/success/{metric}")
        return first - theirs.run.metric(f"{theirs.own}/success/{metric}")

    return figure


def asymptote(ours: Series, theirs: Series) -> float:
    """Of what was learned: the first evaluation is of the base."""
    return float(ours.success[1:][-LAST:].mean() - theirs.success[1:][-LAST:].mean())


def matched(ours: Series, theirs: Series) -> float:
    """Success when both have spent what the more sparing of the two spends in all, the search included."""
    spent = min(one.rollouts(one.steps[-1]) for one in (ours, theirs))
    mine, other = (np.interp(spent, [one.rollouts(step) for step in one.steps], one.success) for one in (ours, theirs))
    return float(mine - other)


def skills(ours: Series, theirs: Series) -> float:
    """Share of plain instructions obeyed at the end."""
    return ours.run.results.base_values("slow", "reward")[-1] - theirs.run.results.base_values("slow", "reward")[-1]


def unprompted(ours: Series, theirs: Series) -> float:
    """Of the last task, which both learn without prompts."""
    return float(ours.of("slow", "success")[-1] - theirs.of("slow", "success")[-1])


def gaps(ours: Series, theirs: Series) -> Values:
    """Success right after learning each task but the first, ours less theirs."""
    first, second = (np.array(at_moment(one.run.results, one.own, "success", "learned")) for one in (ours, theirs))
    return (first - second)[1:]


def later(ours: Series, theirs: Series) -> float:
    return float(gaps(ours, theirs).mean())


def later_slope(ours: Series, theirs: Series) -> float:
    """A task; NaN where there is none after the second."""
    gap_J = gaps(ours, theirs)
    return float(np.polyfit(np.arange(len(gap_J)), gap_J, 1)[0]) if len(gap_J) > 1 else math.nan


def reported(term: str) -> Figure:
    return lambda ours, theirs: ours.last(term) - theirs.last(term)


SINGLE = [
    *(
        Claim(f"{what}: fewer {unit}", Sooner(level, rollouts=unit == "rollouts"), 1, is_ratio=True)
        for what, level in (
            ("leaves zero (success 0.05)", 0.05),
            ("success 0.5", 0.5),
            ("success 0.9", 0.9),
            ("best success of RL", None),
        )
        for unit in ("steps", "rollouts")
    ),
    Claim("higher asymptote", asymptote, 1),
    Claim("higher success for equal rollouts", matched, 1),
    Claim("less drift at equal success, own prompt", cut(None, "kl"), 1),
    Claim("less drift at equal success, seed prompt", cut("slow", "kl"), 1),
    Claim("less drift at equal success, mean over words", cut("slow", "kl_words"), 1),
    Claim("keeps more base skills", skills, 1),
]
PROBE = [
    Claim("keeps plasticity: then learns a new task better by RL alone", unprompted, 1),
    Claim("keeps more base skills", skills, 1),
]
STREAM = [
    Claim("learns more of each task", gain("avg_learning"), 1),
    Claim("learns on: less falls from task to task (slope)", gain("learning_slope"), 1),
    Claim("knows more in the end, prompt in use", gain("avg_final"), 1),
    Claim("knows more in the end, archived prompts", gain("avg_final", own=False, mode="archived"), 1),
    Claim("forgets less, prompt in use", gain("forgetting_at_learn"), -1),
    Claim("forgets less, archived prompts", gain("forgetting_at_learn", own=False, mode="archived"), -1),
    Claim("keeps more entropy (nats)", reported("entropy"), 1),
    Claim("fewer problems without any signal (zero variance)", reported("zero_variance"), -1),
    Claim("keeps more base skills", skills, 1),
]
# Against what learns each task from the base, as much helped by prompts.
FRESH = [
    Claim("plasticity: learns more of later tasks than a fresh network", later, 1),
    Claim("plasticity: gains on a fresh network with each task (slope)", later_slope, 1),
]


def claims(runs: Sequence[Run]) -> Sheet:
    """A row for each claim, setting and method. Raises ValueError where no two runs can be compared."""
    rows = []
    settings = settings_of(runs)
    for setting in settings:
        judged = []
        for method in (one for one in setting.methods if one.is_prompted):
            rival = setting.rival(method)
            if rival is None:
                continue
            rows += [row(claim, setting, method, rival) for claim in list_of(method)]
            judged += [rival] if rival not in judged else []
            if method.is_plain:
                judged.append(method)
        if setting.same["task.num_tasks"] > 1:
            pairs = [(own, one) for own in judged for one in setting.fresh(own, settings)]
            rows += [row(claim, setting, own, one) for own, one in pairs for claim in FRESH]
    if not rows:
        raise ValueError(
            "--claims: needs runs of objective=reward with adapter=prompt_pool or soft_prompt, and with adapter=none "
            "on the same tasks, bases and seeds"
        )
    title = "Fast-Slow Training (arXiv 2605.12484) beside reinforcement learning alone; 95 % t-intervals over seeds"
    keys = ["tasks", "method", "against", "claim", "our figure", "reached by", "seeds", "holds"]
    return Sheet(title, keys, ["figure"], rows, heads=keys[:3], in_words=True)


def list_of(method: Method) -> list[Claim]:
    """What can be asked of one task, of two with prompts in the first alone, of a stream."""
    if method.says("task.num_tasks") == 1:
        return SINGLE
    return PROBE if method.first_alone else STREAM


def row(claim: Claim, setting: Setting, method: Method, other: Method) -> tuple[list[str], list[Cell]]:
    pairs = [(Series(ours), Series(theirs)) for ours, theirs in method.pairs(other)]
    found = [(value, pair) for value, pair in ((claim.figure(*pair), pair) for pair in pairs) if not math.isnan(value)]
    interval = t_interval([value for value, _ in found])
    reached_by, decided = "", verdict(claim, interval)
    if isinstance(claim.figure, Sooner) and found:
        counts = [sum(side) for side in zip(*(claim.figure.reached(*pair) for _, pair in found), strict=True)]
        reached_by = f"{counts[0]}, {counts[1]} of {len(found)}"
        # A bound in favour of the one that never got there resolves nothing.
        if counts[0 if decided == "holds" else 1] < len(found):
            decided = "not resolved"
    told = [setting.words, method.name, other.beside(method), claim.words, in_words(claim, interval), reached_by]
    told += [str(len(found)), decided]
    return told, [Cell(interval, difference=True, signed=True)]


def in_words(claim: Claim, interval: Interval) -> str:
    """The figure with its interval, where there is one."""
    ends = [interval.mean, interval.mean - interval.half, interval.mean + interval.half]
    mean, low, high = (f"{2**x:.2f}" if claim.is_ratio else f"{x:+.2f}" for x in ends)
    if math.isnan(interval.mean):
        return "-"
    range_ = "" if math.isnan(interval.half) else f" [{low}, {high}]"
    return f"{mean} x{range_}" if claim.is_ratio else f"{mean}{range_}"


def verdict(claim: Claim, interval: Interval) -> str:
    if not interval.resolved or math.isnan(interval.half):
        return "not resolved"
    return "holds" if interval.mean * claim.sign > 0 else "does not hold"
