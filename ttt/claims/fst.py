"""The claims of Fast-Slow Training (arXiv 2605.12484) beside the figures of runs: ttt-compare FOLDER --claims.

Each method with prompts is compared with reinforcement learning alone (adapter=none) on the same tasks, bases and
seeds; of several such baselines with the one that learns most, so that none is a straw man. The seed is the unit. A
difference is a mean over seeds, a ratio a geometric mean, both with a 95 % t-interval. A claim holds where the interval
lies beyond no effect on the side of the claim, does not where it lies on the other, else it is not resolved. A level
that one of the two never reaches counts as reached when its run ends, so that the ratio is a bound; a seed in which
neither reaches it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttt.claims.series import PROMPTED, Series, at_level, reached
from ttt.compare import Group, at_moment, group_runs, name_of
from ttt.metrics.seeds import Interval, t_interval
from ttt.runs import Run
from ttt.sheet import Cell, Sheet

# Success rates at which distances from the base are compared.
GRID = np.arange(0.1, 0.91, 0.1)
# Evaluations at the end that an asymptote is a mean over.
LAST = 5
SETTING = ("source.name", "task.ops", "task.num_tasks", "task.steps_per_task", "task.announced")

# (ours, baseline) of one seed -> a figure
Figure = Callable[[Series, Series], float]


@dataclass(frozen=True)
class Claim:
    """`sign`: the side of no effect on which the claim lies; 0: nothing is claimed. `is_ratio`: a base-2 logarithm."""

    words: str
    figure: Figure
    sign: int
    is_ratio: bool = False


def sooner(level: float | None, *, rollouts: bool) -> Figure:
    """log2 of what the baseline needs to reach a success over what we need; None: the baseline's own best. NaN where
    neither reaches it: that says nothing of either."""

    def figure(ours: Series, theirs: Series) -> float:
        goal = float(theirs.success.max()) if level is None else level
        if max(ours.success.max(), theirs.success.max()) < goal:
            return math.nan
        return math.log2(needed(theirs, goal, rollouts=rollouts) / needed(ours, goal, rollouts=rollouts))

    return figure


def needed(series: Series, level: float, *, rollouts: bool) -> float:
    """At least one step's worth: a prompt may do it before the first."""
    steps = max(min(reached(series.steps, series.success, level), float(series.steps[-1])), 1.0)
    return series.rollouts(steps) if rollouts else steps


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
    return float(ours.success[-LAST:].mean() - theirs.success[-LAST:].mean())


def skills(ours: Series, theirs: Series) -> float:
    """Share of plain instructions obeyed at the end."""
    return ours.run.results.base_values("slow", "reward")[-1] - theirs.run.results.base_values("slow", "reward")[-1]


def unprompted(ours: Series, theirs: Series) -> float:
    """Of the last task, which both learn without prompts."""
    return float(ours.of("slow", "success")[-1] - theirs.of("slow", "success")[-1])


def later(ours: Series, theirs: Series) -> float:
    """Success right after learning a task, mean over all tasks but the first."""
    first, second = (np.mean(at_moment(one.run.results, one.own, "success", "learned")[1:]) for one in (ours, theirs))
    return float(first - second)


def reported(term: str) -> Figure:
    return lambda ours, theirs: ours.last(term) - theirs.last(term)


SINGLE = [
    *(
        Claim(f"{what}: fewer {unit}", sooner(level, rollouts=unit == "rollouts"), 1, is_ratio=True)
        for what, level in (
            ("leaves zero (success 0.05)", 0.05),
            ("success 0.5", 0.5),
            ("success 0.9", 0.9),
            ("best success of RL", None),
        )
        for unit in ("steps", "rollouts")
    ),
    Claim("higher asymptote", asymptote, 1),
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
# Against a network that learns each task from the base.
FRESH = [Claim("plasticity: later tasks are learned as by a fresh network", later, 1)]


def claims(runs: Sequence[Run]) -> Sheet:
    """A row for each claim, setting and method. Raises ValueError where no two runs can be compared."""
    rows = []
    for setting, members in sorted(by_setting(runs).items(), key=lambda item: str(item[0])):
        groups = group_runs(members)
        baselines = [group for group in groups if says(group, "adapter.name", "none") and plain(group)]
        if not baselines:
            continue
        base = max(baselines, key=lambda group: (len(group.runs), learning(group)))
        fresh = [group for group in groups if says(group, "strategy.name", "independent")]
        for group in groups:
            if prompted(group):
                rows += [row(claim, setting, group, base) for claim in list_of(setting)]
            if plain(group) and (group is base or prompted(group)):
                rows += [row(claim, setting, group, other) for other in fresh for claim in FRESH]
    if not rows:
        raise ValueError(
            "--claims: needs runs of objective=reward with adapter=prompt_pool or soft_prompt, and with adapter=none"
        )
    title = "Fast-Slow Training (arXiv 2605.12484) beside reinforcement learning alone; 95 % t-intervals over seeds"
    return Sheet(title, ["claim", "tasks", "method", "against", "in words", "seeds", "holds"], ["figure"], rows)


def by_setting(runs: Sequence[Run]) -> dict[tuple[object, ...], list[Run]]:
    """Runs on the same tasks; which base they began from sets no method apart."""
    found: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        if run.config.get("objective.name") == "reward":
            config = {key: value for key, value in run.config.items() if key != "base.seed"}
            key = tuple(run.config[name] for name in SETTING)
            found.setdefault(key, []).append(replace(run, config=config))
    return found


def says(group: Group, key: str, value: str) -> bool:
    return bool(group.runs[0].config[key] == value)


def prompted(group: Group) -> bool:
    return group.runs[0].config["adapter.name"] in PROMPTED


def plain(group: Group) -> bool:
    """Learning on, task after task, from rewards."""
    return says(group, "strategy.name", "naive") and says(group, "objective.learn_from", "reward")


def learning(group: Group) -> float:
    return float(np.mean(group.values("slow/success/avg_learning")))


def list_of(setting: tuple[object, ...]) -> list[Claim]:
    """What can be asked of one task, of two with prompts in the first alone, of a stream."""
    _, _, tasks, _, announced = setting
    return SINGLE if tasks == 1 else PROBE if announced else STREAM


def row(claim: Claim, setting: tuple[object, ...], group: Group, base: Group) -> tuple[list[str], list[Cell]]:
    theirs = {run.seed: run for run in base.runs}
    pairs = [(Series(run), Series(theirs[run.seed])) for run in group.runs if run.seed in theirs]
    values = [value for value in (claim.figure(*pair) for pair in pairs) if not math.isnan(value)]
    interval = t_interval(values)
    source, ops, tasks, steps, _ = setting
    where = f"{source} ops={ops} {tasks} x {steps} steps"
    # Keys that a method does not have say nothing of it.
    names = [name_of({k: v for k, v in one.label.items() if v != ""}) for one in (group, base)]
    words = [claim.words, where, *names, in_words(claim, interval), str(len(values))]
    return [*words, verdict(claim, interval)], [Cell(interval, difference=True, signed=True)]


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
