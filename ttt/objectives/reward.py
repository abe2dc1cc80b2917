"""`reward`: slow weights by policy gradient and prompts by search or gradient, for one reward.

    each cycle   the adapter improves its prompts on the first batch, slow weights frozen;
                 then T slow steps
    slow step    G rollouts of each problem x, evenly over the K prompts;
                 A = (r - mean_x) / std_x  over all G;  w = min(p / p_old, clip), held constant
                 loss = - mean_x mean_i mean_t  w A log p(y_t | prompt, x, y_<t)
                        - entropy * H(p) + kl * KL(p || base)

Fast-Slow Training (arXiv 2605.12484) with CISPO; problems whose rewards are all equal are left out.
With adapter=none it is plain reinforcement learning. Each batch is used once: in precision 32-true,
p = p_old up to rounding.
Shapes: B problems, G rollouts of each, R = B * G, K prompts, P prompt (vectors: P x D), A answer,
T time, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from ttt.adapters.evolving import Evolving
from ttt.kernels import policy
from ttt.learner import Learner
from ttt.objectives import answers
from ttt.objectives.base import Loss, Objective
from ttt.objectives.cycle import Cycle
from ttt.objectives.policy_loss import Baseline, PolicyLoss, policy_loss
from ttt.prompts.rollouts import Play, Rollouts, evenly
from ttt.stream import Batch, Layout

COUNTS = ("steps", "rounds", "rollouts", "fast_rollouts")


class Reward(Objective):
    """Arguments are explained in conf/objective/reward.yaml.

    `layout`: the task's description of its rows; None if its rows hold no problems.
    """

    is_plain = False

    def __init__(
        self,
        *,
        name: str,
        # One rollout alone has no baseline to be compared with.
        rollouts: Annotated[int, Ge(2)],
        temperature: Annotated[float, Gt(0)],
        baseline: Baseline,
        clip: Annotated[float, Gt(0)],
        entropy: Annotated[float, Ge(0)],
        kl: Annotated[float, Ge(0)],
        learn_from: Literal["reward", "prompt"],
        reuse: bool,
        cycle: dict[str, Any],
        layout: Layout | None,
    ) -> None:
        super().__init__(name=name)
        if layout is None:
            raise ValueError(f"objective={name}: needs problems with a verifiable answer; use task=reward-sequence")
        if learn_from == "prompt" and (entropy or kl):
            raise ValueError(
                "objective.learn_from=prompt: learns from no reward; use objective.entropy=0 objective.kl=0"
            )
        self.layout, self.group, self.reuse = layout, rollouts, reuse
        self._temperature, self.baseline, self._clip = temperature, baseline, clip
        self._entropy, self._kl, self.learn_from = entropy, kl, learn_from
        self.cycle = Cycle.read(cycle)
        self._counts = dict.fromkeys(COUNTS, 0)
        # Values of the steps since the last report, whose means `watched` returns.
        self._watched: dict[str, list[float]] = defaultdict(list)
        self.base: dict[str, Tensor] = {}
        # The best prompt at the end of each task.
        self.archive: dict[int, Tensor] = {}

    def begin(self, learner: Learner) -> None:
        """Keep a copy of the base's weights, from which distances are measured."""
        self.base = {name: x.detach().clone() for name, x in learner.model.named_parameters()}

    def loss(self, learner: Learner, batch: Batch, *, own: int, learns: bool) -> Loss:
        """Run a round of the fast channel if one is due, then return the loss of a slow step."""
        # The round comes first: slow weights always learn behind the newest prompts.
        searched = self._run_round(learner, batch)
        self._counts["steps"] += 1
        if not learns:
            # Frozen slow weights need no answers, so none are sampled and none are counted.
            return Loss(self._zero_loss(learner))
        # Distillation learns from a prompt that its own answers do not see.
        prompt_KP = self.prompts(learner) if self.learn_from == "reward" else self._seed(learner)
        rollouts = self._rollouts(learner, batch, prompt_KP, searched)
        self._counts["rollouts"] += len(rollouts.reward_R)
        self._watched["reward"].append(float(rollouts.reward_R.mean()))
        # The mean surprise of sampled tokens estimates the entropy without another pass.
        self._watched["entropy"].append(-float(rollouts.logp_RA.mean()))
        if self.learn_from == "prompt":
            return Loss(self._distillation_loss(learner, batch, rollouts))
        return Loss(self._slow_loss(learner, batch, rollouts))

    def _run_round(self, learner: Learner, batch: Batch) -> Rollouts | None:
        """Run a round of the fast channel if one is due.

        Return its rollouts under the prompts that are in use after it.
        """
        if not isinstance(learner.adapter, Evolving):
            return None
        if not self.cycle.is_due(steps=self._counts["steps"], rounds=self._counts["rounds"]):
            return None
        # Behind these functions a search needs no model: any policy that plays will do.
        play = Play(
            answer=lambda problem_R, prompt_RP: self.play(learner, batch, problem_R, prompt_RP),
            loss=lambda rollouts: self._prompt_loss(learner, batch, rollouts),
            group=self.group,
        )
        outcome = learner.adapter.evolve(learner.fast, play, batch, budget=self.cycle.fast_budget)
        learner.fast = learner.adapter.carry(outcome.state)
        self._counts["rounds"] += 1
        self._counts["fast_rollouts"] += outcome.used
        return outcome.rollouts

    def play(self, learner: Learner, batch: Batch, problem_R: Tensor, prompt_RP: Tensor) -> Rollouts:
        """Sample one answer for each index of a problem in `batch`, under the prompt beside it."""
        return answers.play(
            learner.model, batch, problem_R, prompt_RP, layout=self.layout, temperature=self._temperature
        )

    def prompts(self, learner: Learner) -> Tensor:
        """The prompts in use, [K, P] or [K, P, D]: the adapter's, or the seed prompt alone."""
        if isinstance(learner.adapter, Evolving):
            return learner.adapter.emitted(learner.fast)
        return self._seed(learner)

    def _seed(self, learner: Learner) -> Tensor:
        return torch.tensor([self.layout.seed_prompt], device=next(learner.model.parameters()).device)

    def _rollouts(self, learner: Learner, batch: Batch, prompt_KP: Tensor, searched: Rollouts | None) -> Rollouts:
        """Return G rollouts of each problem, evenly over the prompts.

        If `reuse` is set, take what it can from `searched`, the rollouts of this step's round.
        """
        # Evenly, so that all prompts answer the same problems and their rewards can be compared.
        problem_B = torch.arange(len(batch.tokens_BT), device=prompt_KP.device)
        problem_R, lane_R = evenly(problem_B, group=self.group, prompts=len(prompt_KP))
        prompt_RP = prompt_KP[lane_R]
        if searched is None or not self.reuse or self.learn_from == "prompt":
            return self.play(learner, batch, problem_R, prompt_RP)
        reused, missing = answers.match_rollouts(problem_R, prompt_RP, searched)
        # The round has counted these among its own, and no rollout is counted twice.
        self._counts["rollouts"] -= len(reused)
        fresh = self.play(learner, batch, problem_R[missing], prompt_RP[missing])
        return Rollouts.cat([searched.pick(reused), fresh])

    def _logp(
        self, learner: Learner, batch: Batch, rollouts: Rollouts, *, weights: dict[str, Tensor] | None = None
    ) -> Tensor:
        return answers.answer_logp(
            learner.model, batch, rollouts, layout=self.layout, temperature=self._temperature, weights=weights
        )

    def _policy_loss(self, learner: Learner, batch: Batch, rollouts: Rollouts, *, read_all: bool) -> PolicyLoss:
        return policy_loss(
            rollouts,
            lambda needed: self._logp(learner, batch, needed),
            baseline=self.baseline,
            clip=self._clip,
            read_all=read_all,
        )

    def _prompt_loss(self, learner: Learner, batch: Batch, rollouts: Rollouts) -> Tensor:
        """The policy loss of a gradient step on soft prompts."""
        # All rollouts are read, so that prompts without mixed rewards get a gradient of zero.
        loss = self._policy_loss(learner, batch, rollouts, read_all=True).value
        assert loss is not None, "every rollout is read"
        return loss

    def _slow_loss(self, learner: Learner, batch: Batch, rollouts: Rollouts) -> Tensor:
        """The policy loss of a slow step, with its regularisers."""
        # Regularisers are means over all rollouts; the policy loss alone needs only mixed groups.
        loss = self._policy_loss(learner, batch, rollouts, read_all=bool(self._entropy or self._kl))
        self._watched["zero_variance"].append(loss.zero_variance)
        if loss.value is None or loss.logp_RAV is None or loss.logp_gap is None:
            return self._zero_loss(learner)
        self._watched["logp_gap"].append(loss.logp_gap)
        return loss.value + self._regularizers(learner, batch, rollouts, loss.logp_RAV)

    def _zero_loss(self, learner: Learner) -> Tensor:
        """Return a zero loss over all parameters.

        The optimizer still steps, and its moments decay as after any gradient of zero.
        """
        return torch.stack([0.0 * x.sum() for x in learner.model.parameters()]).sum()

    def _regularizers(self, learner: Learner, batch: Batch, rollouts: Rollouts, logp_RAV: Tensor) -> Tensor | float:
        """The entropy bonus and the penalty on the distance from the base; 0 if both are off."""
        # Both are exact over the vocabulary, so their gradients have less noise than sampled ones.
        extra: Tensor | float = 0.0
        if self._entropy:
            extra = extra - self._entropy * policy.entropy(logp_RAV).mean()
        if self._kl:
            with torch.no_grad():
                base_RAV = self._logp(learner, batch, rollouts, weights=self.base)
            kl = policy.kl(logp_RAV, base_RAV).mean()
            self._watched["kl"].append(float(kl.detach()))
            extra = extra + self._kl * kl
        return extra

    def _distillation_loss(self, learner: Learner, batch: Batch, rollouts: Rollouts) -> Tensor:
        """KL(p without prompt || p with the best prompt) on answers sampled without a prompt.

        On-policy distillation by the reverse KL (arXiv 2601.20802); the teacher gets no gradient.
        """
        logp_RAV = self._logp(learner, batch, rollouts)
        best_RP = self.prompts(learner)[[0] * len(rollouts.reward_R)]
        with torch.no_grad():
            teacher_RAV = self._logp(learner, batch, replace(rollouts, prompt_RP=best_RP))
        return policy.kl(logp_RAV, teacher_RAV).mean()

    def watched(self) -> dict[str, float]:
        means = {name: sum(values) / len(values) for name, values in self._watched.items()}
        self._watched.clear()
        return means

    def terms(self) -> dict[str, float]:
        return {name: float(self._counts[name]) for name in ("rounds", "rollouts", "fast_rollouts")}

    def learned(self, learner: Learner, task: int) -> None:
        # A task that returns later replaces its prompt.
        self.archive[task] = self.prompts(learner)[0]

    def state(self) -> dict[str, Tensor]:
        # Without the base: `begin` has copied its weights before `restore` is called.
        counts = {name: torch.tensor(value) for name, value in self._counts.items()}
        return counts | {f"archive.{task}": prompt_P for task, prompt_P in self.archive.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._counts = {name: int(state[name]) for name in COUNTS}
        self.archive = {int(k.removeprefix("archive.")): x for k, x in state.items() if k.startswith("archive.")}
