"""The claims of Fast-Slow Training (arXiv 2605.12484) beside our numbers: ttt-compare --claims.

Each method with prompts, and each control, is compared with reinforcement learning alone
(adapter=none) on the same tasks, bases and seeds. The baseline is the strongest: among those that
ran most of the method's seeds, the one that learned most on them. A baseline that learns less may
forget and drift less, so drift is compared at equal success where that is possible (one task).
Methods whose search is shown right answers are also compared with slow weights that imitate such
answers (objective.learn_from): then both sides know the same.

The seed is the unit. A difference is a mean over seeds, a ratio a geometric mean, both with a 95 %
t-interval. A claim holds if the whole interval lies on the claim's side of no effect, does not hold
if it lies on the other side, and is not resolved otherwise.

A run that never reaches a level counts as if it did so at its end. The ratio is then a bound, which
resolves nothing in favour of that run; the table says how many runs reached the level. Seeds in
which neither run reaches it are left out, and so is RL's best success where RL learned nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ttt.claims.measures import (
    Measure,
    Sooner,
    asymptote_gain,
    equal_cost_gain,
    later_gain,
    later_slope,
    reported_gain,
    saved_drift,
    skill_gain,
    success_gain,
    thrift,
    unprompted_gain,
)
from ttt.claims.series import TERMS, Series, Unit
from ttt.claims.settings import Method, Setting, settings_of
from ttt.compare.runs import Run
from ttt.compare.sheet import Cell, Sheet
from ttt.metrics.seeds import Interval, t_interval


@dataclass(frozen=True)
class Claim:
    """A claim and the number that decides it.

    `sign` is the side of no effect on which the claim lies; `is_ratio` says that the number is a
    base-2 logarithm.
    """

    words: str
    measure: Measure
    sign: int
    is_ratio: bool = False


STEPS_AND_ROLLOUTS: tuple[Unit, ...] = ("steps", "rollouts")
BASE_SKILLS = Claim("keeps more base skills", skill_gain, 1)
# One task: how soon, how high, and how far from the base.
SINGLE = [
    *(
        Claim(f"{what}: fewer {unit}", Sooner(level, unit), 1, is_ratio=True)
        for what, level in (
            ("leaves zero (success 0.05)", 0.05),
            ("success 0.5", 0.5),
            ("success 0.9", 0.9),
            ("the best success of the other", None),
        )
        for unit in STEPS_AND_ROLLOUTS
    ),
    Claim("higher asymptote", asymptote_gain, 1),
    *(Claim(f"higher success for equal {unit}", equal_cost_gain(unit), 1) for unit in TERMS),
    *(
        Claim(f"less drift at equal success, {direction}, {prompt}", saved_drift(mode, f"{kl}{suffix}"), 1)
        for direction, kl in (("KL(policy || base)", "kl"), ("KL(base || policy)", "kl_forward"))
        for prompt, mode, suffix in (
            ("own prompt", None, ""),
            ("seed prompt", "slow", ""),
            ("mean over words", "slow", "_words"),
        )
    ),
    BASE_SKILLS,
]
# Two tasks, with prompts in the first alone: does the second one profit?
PROBE = [
    Claim("keeps plasticity: then learns a new task better by RL alone", unprompted_gain, 1),
    BASE_SKILLS,
]
# A stream: learning on, and forgetting.
STREAM = [
    Claim("learns more of each task", success_gain("avg_learning"), 1),
    Claim("learns on: less falls from task to task (slope)", success_gain("learning_slope"), 1),
    Claim("knows more in the end, prompt in use", success_gain("avg_final"), 1),
    Claim("knows more in the end, archived prompts", success_gain("avg_final", mode="archived"), 1),
    Claim("forgets less, prompt in use", success_gain("forgetting_at_learn"), -1),
    Claim("forgets less, archived prompts", success_gain("forgetting_at_learn", mode="archived"), -1),
    Claim("keeps more entropy (nats)", reported_gain("entropy"), 1),
    Claim("fewer problems without any signal (zero variance)", reported_gain("zero_variance"), -1),
    *(Claim(f"spends fewer {unit} in all", thrift(unit), 1, is_ratio=True) for unit in TERMS),
    BASE_SKILLS,
]
# Against a method that learns each task from the base, with the same help of prompts.
FRESH = [
    Claim("plasticity: learns more of later tasks than a fresh network", later_gain, 1),
    Claim("plasticity: gains on a fresh network with each task (slope)", later_slope, 1),
]


def claims(runs: Sequence[Run]) -> Sheet:
    """Return a row for each claim, setting and method.

    Raises ValueError if no two runs can be compared.
    """
    settings = settings_of(runs)
    rows = [row for setting in settings for row in _rows_of_setting(setting, settings)]
    if not rows:
        raise ValueError(
            "--claims: needs runs of objective=reward with adapter=prompt_pool or soft_prompt, and with adapter=none "
            "on the same tasks, bases and seeds"
        )
    title = "Fast-Slow Training (arXiv 2605.12484) beside reinforcement learning alone; 95 % t-intervals over seeds"
    keys = ["tasks", "method", "against", "claim", "our figure", "reached by", "seeds", "holds"]
    return Sheet(title, keys, ["figure"], rows, heads=keys[:3], in_words=True)


def _rows_of_setting(setting: Setting, settings: Sequence[Setting]) -> list[tuple[list[str], list[Cell]]]:
    rows: list[tuple[list[str], list[Cell]]] = []
    # Methods whose plasticity is compared with fresh networks; a rival of several counts once.
    learners: list[Method] = []
    for method in (method for method in setting.methods if method.is_prompted or method.is_control):
        rival = setting.rival(method)
        if rival is None:
            continue
        for other in (rival, *setting.imitators(method)):
            rows += [claim_row(claim, setting, method, other) for claim in claims_about(method)]
        learners += [rival] if rival not in learners else []
        if method.is_plain:
            learners.append(method)
    if setting.same["task.num_tasks"] > 1:
        pairs = [(learner, fresh) for learner in learners for fresh in setting.fresh(learner, settings)]
        rows += [claim_row(claim, setting, learner, fresh) for learner, fresh in pairs for claim in FRESH]
    return rows


def claims_about(method: Method) -> list[Claim]:
    """Return the claims for one task, for two with prompts in the first alone, or for a stream."""
    if method.value("task.num_tasks") == 1:
        return SINGLE
    return PROBE if method.first_alone else STREAM


def claim_row(claim: Claim, setting: Setting, method: Method, other: Method) -> tuple[list[str], list[Cell]]:
    """Return a row of the sheet: its words, and one cell with the interval over seeds."""
    pairs = [(Series(ours), Series(theirs)) for ours, theirs in method.pairs(other)]
    measured = [(claim.measure(*pair), pair) for pair in pairs]
    defined = [(value, pair) for value, pair in measured if not math.isnan(value)]
    interval = t_interval([value for value, _ in defined])
    reached_by, decision = "", decide(claim, interval)
    if isinstance(claim.measure, Sooner) and defined:
        ours, theirs = (sum(side) for side in zip(*(claim.measure.reached(*pair) for _, pair in defined), strict=True))
        reached_by = f"{ours}, {theirs} of {len(defined)}"
        # Where a run never reached the level, the ratio only bounds the truth in its favour.
        if (ours if decision == "holds" else theirs) < len(defined):
            decision = "not resolved"
    words = [setting.words, method.name, other.beside(method), claim.words, in_words(claim, interval), reached_by]
    return [*words, str(len(defined)), decision], [Cell(interval, difference=True, signed=True)]


def in_words(claim: Claim, interval: Interval) -> str:
    """Return the number with its interval, as a factor for a ratio."""
    # Ratios were averaged as logarithms: people read factors.
    ends = [interval.mean, interval.mean - interval.half, interval.mean + interval.half]
    mean, low, high = (f"{2**x:.2f}" if claim.is_ratio else f"{x:+.2f}" for x in ends)
    if math.isnan(interval.mean):
        return "-"
    range_ = "" if math.isnan(interval.half) else f" [{low}, {high}]"
    return f"{mean} x{range_}" if claim.is_ratio else f"{mean}{range_}"


def decide(claim: Claim, interval: Interval) -> str:
    # A single seed has no interval: it resolves nothing.
    if not interval.resolved or math.isnan(interval.half):
        return "not resolved"
    return "holds" if interval.mean * claim.sign > 0 else "does not hold"
