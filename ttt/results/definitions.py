"""The metrics of a run, one on each line: its name, function, direction, unit and label.

`_all` says once what a group of them needs. A metric that is added here has a value in
results.json, a direction for searches and comparisons, and a reason where it is NaN (see
ttt.results.catalogue). The order is that of results.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ttt.metrics import matrix, split
from ttt.metrics import references as refs
from ttt.metrics.anytime import ANYTIME
from ttt.results import formulas
from ttt.results.formulas import gain_in, lost_in, part_of
from ttt.results.metric import Better, Metric, Need

AT_LEARN = matrix.forgetting_at_learn
# The function; how to read the number; its unit, where "{}" is that of the quantity; its label.
Line = tuple[Callable[..., float], Better, str, str]
NO_HARM = f"the slow weights forgot no more than {matrix.NOISE}"
NO_GAIN = f"no more than {matrix.NOISE} was gained on the tasks that can be forgotten"
NO_LOSS = f"the slow weights lost no more plasticity than {matrix.NOISE}"


def _all(needs: Need, lines: Mapping[str, Line], *, too_small: str = "") -> dict[str, Metric]:
    return {
        name: Metric(of, needs, better, unit, label, too_small) for name, (of, better, unit, label) in lines.items()
    }


# MODE/QUANTITY/...
METRICS = {
    **_all("R", {
        "avg_before": (matrix.avg_before, "value", "{}", "before the stream"),
        "avg_final": (matrix.avg_final, "value", "{}", "after the whole stream"),
        "avg_learning": (matrix.avg_learning, "value", "{}", "right after learning"),
        "avg_incremental": (matrix.avg_incremental, "value", "{}", "tasks so far, mean over phases"),
        "avg_triangle": (matrix.avg_triangle, "value", "{}", "tasks so far, mean over all cells"),
        "forgetting_max_seen": (matrix.forgetting_max_seen, "harm", "{}", "forgetting"),
        "forgetting_max_rows": (matrix.forgetting_max_rows, "harm", "{}", "forgetting, rows before learning too"),
        "forgetting_max_last": (matrix.forgetting_max_last, "harm", "{}", "forgetting, last row too"),
        "forgetting_at_learn": (matrix.forgetting_at_learn, "harm", "{}", "forgetting, at learn"),
        "bwt_gem": (matrix.bwt_gem, "gain", "{}", "backward transfer"),
        "bwt_pairs": (matrix.bwt_pairs, "gain", "{}", "backward transfer, all rows"),
        "fwt_b_row0": (matrix.fwt_b_row0, "gain", "{}", "forward transfer"),
        "fwt_pairs_raw": (matrix.fwt_pairs_raw, "value", "{}", "tasks not learned yet"),
        "learning_slope": (matrix.learning_slope, "gain", "{} per task", "slope of learning"),
        "gained_slope": (matrix.gained_slope, "gain", "{} per task", "slope of what is gained"),
        "gained": (matrix.gained, "gain", "{}", "gained by learning"),
        "kept": (matrix.gained_finally, "gain", "{}", "gained by the whole stream"),
    }),
    "forgetting_per_gained": Metric(
        matrix.forgetting_per_gained,
        "R",
        "harm",
        "share",
        "forgetting, share of what was gained",
        too_small=NO_GAIN,
        parts=matrix.forgetting_and_gain,
    ),
    # What the stream does to the distribution on which the slow weights were trained first.
    **_all("base", {
        "base_final": (formulas.base_final, "value", "{}", "base distribution, at the end"),
        "base_forgetting": (formulas.base_forgetting, "harm", "{}", "base forgotten"),
    }),
    # A stream's score has no meaning of its own: these set it beside what other networks reach.
    **_all("references", {
        "fwt_b_untrained": (refs.fwt_b_untrained, "gain", "{}", "forward transfer, over untrained networks"),
        "fwt_independent": (refs.fwt_independent, "gain", "{}", "learned more than by a fresh network"),
        "intransigence_joint": (refs.intransigence_joint, "harm", "{}", "joint training, every task"),
        "intransigence_joint_last": (refs.intransigence_joint_last, "harm", "{}", "joint training, last task"),
        "plasticity_gap_fresh": (refs.plasticity_gap_fresh, "harm", "{}", "a fresh network learns more"),
        "plasticity_gap_slope": (refs.plasticity_gap_slope, "harm", "{} per task", "lead of a fresh network, slope"),
        "score_final": (refs.score_final, "more", "share", "share of joint training's gain kept"),
        "score_learning": (refs.score_learning, "more", "share", "share of joint training's gain learned"),
        "final_over_frozen": (refs.final_over_frozen, "gain", "{}", "after the whole stream, over frozen weights"),
    }),
    # A slope over fewer than three tasks is a line through its own points.
    **_all("learned", {
        "plasticity_loss": (split.plasticity_loss, "harm", "{} per task", "loss of plasticity"),
        "slope_low": (formulas.slope_low, "gain", "{} per task", "slope of learning, at least"),
        "slope_high": (formulas.slope_high, "gain", "{} per task", "slope of learning, at most"),
    }),
    # Censored: the share of cases whose end was not seen. Beside it the mean says little.
    **_all("points", {
        "min_acc": (ANYTIME["min_acc"], "value", "{}", "worst value of each old task, mean"),
        "wc_acc": (ANYTIME["wc_acc"], "value", "{}", "worst case, with the last task"),
        "gap_depth": (ANYTIME["gap_depth"], "harm", "{}", "depth of the stability gap"),
        "gap_lasting": (ANYTIME["gap_lasting"], "harm", "{}", "of it left when a task ends"),
        "gap_length": (ANYTIME["gap_length"], "less", "batches", "length of the stability gap"),
        "gap_length_censored": (ANYTIME["gap_length_censored"], "less", "share", "share of gaps without an end"),
        "windowed_forgetting": (ANYTIME["windowed_forgetting"], "harm", "{}", "steepest fall"),
        "windowed_plasticity": (ANYTIME["windowed_plasticity"], "gain", "{}", "steepest rise"),
        "steps_to_criterion": (ANYTIME["steps_to_criterion"], "less", "batches", "batches to 90 % of what is learned"),
        "steps_to_criterion_censored": (
            ANYTIME["steps_to_criterion_censored"], "less", "share", "share of tasks that did not reach 90 %"
        ),
    }),
    **_all("relearned", {
        "savings_slow": (formulas.mean_saving, "more", "share", "share of batches saved in relearning"),
        "savings_slow_censored": (formulas.censored_share, "less", "share", "share of tasks that did not come back"),
    }),
    **_all("profile", {
        "savings_fast": (formulas.mean_saving, "more", "share", "share of context saved in reading again"),
        "savings_fast_censored": (formulas.censored_share, "less", "share", "share of tasks that reading lost"),
    }),
}  # fmt: skip
# Each is a mean over tasks of a number that one column of R (and of the references) determines.
MEANS_OVER_TASKS = frozenset((
    "avg_before", "avg_final", "avg_learning", "gained", "kept", "forgetting_per_gained", "forgetting_max_seen",
    "forgetting_max_rows", "forgetting_max_last", "forgetting_at_learn", "bwt_gem", "fwt_b_row0", "fwt_b_untrained",
    "fwt_independent", "intransigence_joint", "plasticity_gap_fresh", "score_final", "score_learning",
    "final_over_frozen", "forgetting_recovered", "lost_access", "access_recovered", "forgetting_slow",
    "forgetting_read", "forgetting_carried", "lost_knowledge", "lost_knowledge_carried", "lost_access_carried",
))  # fmt: skip
# Named lca_N in a run, where N evaluations make the average.
LCA = Metric(formulas.area, "shots", "value", "{}", "area under the learning curve")
# MODE/regret/...: averages of the loss above the entropy of each task.
REGRET = {
    name: replace(metric, needs="regret", better="less", label=f"regret: loss above the entropy, {metric.label}")
    for name, metric in METRICS.items()
    if metric.needs == "R" and metric.better == "value"
}
# fast_gain/QUANTITY/...
# Linear metrics of the difference, then metrics that need both matrices.
FAST_GAIN = {
    **_all("gain", {
        "avg_final": (gain_in(matrix.avg_final), "gain", "{}", "gain of fast over slow, at the end"),
        "avg_learning": (gain_in(matrix.avg_learning), "gain", "{}", "gain of fast over slow, when learned"),
        "learning_slope": (gain_in(matrix.learning_slope), "gain", "{} per task", "slope of that gain"),
        "forgetting_recovered": (split.forgetting_recovered, "gain", "{}", "forgetting that fast weights make up for"),
        "lost_access": (split.lost_access, "harm", "{}", "forgetting that reading brings back"),
        "access_recovered": (split.access_recovered, "gain", "{}", "what reading adds on old tasks, at the end"),
    }),
    **_all("gain", {
        "fast_share": (split.fast_share, "gain", "share", "share of forgetting that fast weights make up for"),
    }, too_small=NO_HARM),
}  # fmt: skip
# split/QUANTITY/...: harm is positive, in the parts of plasticity_loss too.
SPLIT = {
    "forgetting_slow": Metric(part_of(AT_LEARN, "slow"), "split", "harm", "{}", "forgetting, slow weights"),
    "forgetting_read": Metric(part_of(AT_LEARN, "read"), "split read", "harm", "{}", "forgetting, reading"),
    "forgetting_carried": Metric(part_of(AT_LEARN, "carried"), "split carried", "harm", "{}", "forgetting, carried"),
    "plasticity_slow": Metric(lost_in("slow"), "split", "harm", "{} per task", "loss of plasticity, slow weights"),
    "plasticity_read": Metric(lost_in("read"), "split read", "harm", "{} per task", "loss of plasticity, reading"),
    "plasticity_carried": Metric(
        lost_in("carried"), "split carried", "harm", "{} per task", "loss of plasticity, carried"
    ),
    "lost_knowledge": Metric(formulas.knowledge_lost, "split", "harm", "{}", "forgotten even after reading"),
    "lost_access": Metric(formulas.access_lost, "split", "harm", "{}", "forgetting that reading brings back"),
    "fast_share_plasticity": Metric(
        formulas.plasticity_share, "split", "more", "share", "lost plasticity made up for", too_small=NO_LOSS
    ),
    "lost_knowledge_carried": Metric(
        formulas.knowledge_lost_carried, "split both", "harm", "{}", "forgotten even by the carried state"
    ),
    "lost_access_carried": Metric(
        formulas.access_lost_carried, "split both", "harm", "{}", "forgetting that the carried state brings back"
    ),
    "fast_share_carried": Metric(
        formulas.share_carried,
        "split both",
        "more",
        "share",
        "forgetting made up for when carried",
        too_small=NO_HARM,
    ),
}
# MODE/QUANTITY/known_NAME_...: NAME is a set of what the model knew before the stream.
KNOWN = _all("known", {
    "before": (formulas.known_before, "value", "{}", "known {name}, before the stream"),
    "final": (formulas.base_final, "value", "{}", "known {name}, at the end"),
    "forgetting": (formulas.base_forgetting, "harm", "{}", "known {name}, forgotten"),
})  # fmt: skip
# MODE/plasticity/...: hidden units and slow weights in mode slow, fast matrices in mode carried.
PLASTICITY = _all("diagnostics", {
    "dormant_tau0": (formulas.last, "less", "share of units", "silent units"),
    "dormant_tau0.1": (formulas.last, "less", "share of units", "dormant units (tau 0.1)"),
    "dead_zero": (formulas.last, "less", "share of units", "units that are zero"),
    "erank": (formulas.last, "more", "effective rank", "effective rank of hidden units"),
    "stable_rank": (formulas.last, "more", "stable rank", "stable rank of hidden units"),
    "weight_rms": (formulas.last, "less", "root mean square", "size of the slow weights"),
    "weight_l2": (formulas.last, "less", "norm", "norm of the slow weights"),
    "grad_l2": (formulas.last, "more", "norm", "gradient on the probe batch"),
    "over_w0": (formulas.last, "less", "share of the slow norm", "norm of the fast weights"),
})  # fmt: skip
# MODE/drift/...
DRIFT = _all("diagnostics", {"kl_base": (formulas.last, "less", "bits per token", "drift, KL(base || now)")})
# MODE/drift/kl_known_NAME: the same on a text that the model knew.
KNOWN_DRIFT = replace(DRIFT["kl_base"], label="drift on known {name}, KL(base || now)")
# cost/run/...: the keys of status.json that a comparison reads.
# A large fast state is a choice, neither better nor worse.
COSTS = _all("status", {
    "training_tokens_per_second": (float, "more", "tokens per second", "training tokens per second"),
    "seconds": (float, "less", "seconds", "seconds"),
    "evaluation_seconds": (float, "less", "seconds", "evaluation seconds"),
    "strategy_seconds_between_tasks": (float, "less", "seconds", "strategy seconds between tasks"),
    "peak_memory_bytes": (float, "less", "bytes", "peak memory bytes"),
    "strategy_memory_bytes": (float, "less", "bytes", "strategy memory bytes"),
    "fast_state_numbers": (float, "neither", "numbers", "fast state numbers"),
    # Only of objective=reward: slow steps and the search for prompts apart.
    "rollouts": (float, "less", "answers", "answers sampled by slow steps"),
    "fast_rollouts": (float, "less", "answers", "answers sampled by the search"),
    "slow_tokens_read": (float, "less", "tokens", "tokens read by slow steps"),
    "fast_tokens_read": (float, "less", "tokens", "tokens read by the search"),
    "slow_tokens_generated": (float, "less", "tokens", "tokens generated by slow steps"),
    "fast_tokens_generated": (float, "less", "tokens", "tokens generated by the search"),
    "slow_seconds": (float, "less", "seconds", "seconds of slow steps"),
    "fast_seconds": (float, "less", "seconds", "seconds of the search"),
    "proposals": (float, "less", "calls", "calls of the proposer"),
    "shown": (float, "less", "answers", "right answers that were shown"),
})  # fmt: skip
