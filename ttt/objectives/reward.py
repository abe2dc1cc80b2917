"""`reward`: slow weights by policy gradient and prompts by search or gradient, for one reward.

    each cycle   the adapter improves its prompts on the first batch, slow weights frozen;
                 then T slow steps
    slow step    G rollouts of each problem x, evenly over the K prompts;
                 A = (r - mean_x) / std_x  over all G;  w = min(p / p_old, clip), held constant
                 loss = - mean_x mean_i mean_t  w A log p(y_t | prompt, x, y_<t)
                        - entropy * H(p) + kl * KL(p || base)

Fast-Slow Training (arXiv 2605.12484) with CISPO; problems whose rewards are all equal are left out.
With adapter=none it is plain reinforcement learning, and each problem keeps the prompt of its row.
Each batch is used once: in precision 32-true, p = p_old up to rounding.
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
from ttt.objectives.costs import Costs
from ttt.objectives.cycle import Cycle
from ttt.objectives.imitation import IMITATES, Imitation, LearnFrom
from ttt.objectives.policy_loss import Baseline, PolicyGradient, zero_loss
from ttt.prompts.rollouts import Play, Rollouts, evenly
from ttt.stream import Batch, Layout


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
        learn_from: LearnFrom,
        quiz: Annotated[int, Ge(1)],
        drift: Literal["reverse", "both"],
        reuse: bool,
        cycle: dict[str, Any],
        layout: Layout | None,
    ) -> None:
        super().__init__(name=name)
        if layout is None:
            raise ValueError(f"objective={name}: needs problems with a verifiable answer; use task=reward-sequence")
        if learn_from in ("prompt", "answers") and (entropy or kl):
            raise ValueError(
                f"objective.learn_from={learn_from}: learns from no reward; use objective.entropy=0 objective.kl=0"
            )
        self.layout, self.group, self.reuse = layout, rollouts, reuse
        self._temperature, self.baseline, self.learn_from = temperature, baseline, learn_from
        self._gradient = PolicyGradient(baseline, clip, entropy=entropy, kl=kl)
        self.drift, self.cycle = drift, Cycle.read(cycle)
        self._steps, self._costs, self._imitation = 0, Costs(), Imitation(quiz)
        # Values of the steps since the last report, whose means `watched` returns.
        self._watched: dict[str, list[float]] = defaultdict(list)
        self.base: dict[str, Tensor] = {}
        # The best prompt at the end of each task.
        self.archive: dict[int, Tensor] = {}

    def begin(self, learner: Learner) -> None:
        """Keep a copy of the base's weights, from which distances are measured."""
        self.base = {name: x.detach().clone() for name, x in learner.model.named_parameters()}

    def loss(self, learner: Learner, batch: Batch, *, own: int, learns: bool, whole: bool = True) -> Loss:
        """Run a round of the fast channel if one is due, then return the loss of a slow step."""
        self._costs.pause()
        # The round comes first: slow weights always learn behind the newest prompts.
        searched = self._run_round(learner, batch)
        self._steps += 1
        self._costs.begin_step()
        if not learns:
            # Frozen slow weights need no answers, so none are sampled and none are counted.
            return Loss(zero_loss(learner.model))
        if self.learn_from == "answers":
            return Loss(self._imitation.loss(learner.model, self._costs))
        rollouts = self._rollouts(learner, batch, self._in_use(learner), searched)
        self._costs.add("rollouts", len(rollouts.reward_R))
        self._watched["reward"].append(float(rollouts.reward_R.mean()))
        # The mean surprise of sampled tokens estimates the entropy without another pass.
        self._watched["entropy"].append(-float(rollouts.logp_RA.mean()))
        if self.learn_from == "prompt":
            return Loss(self._distillation_loss(learner, batch, rollouts))
        loss = self._slow_loss(learner, batch, rollouts)
        if self.learn_from == "reward_and_answers":
            loss = loss + self._imitation.loss(learner.model, self._costs)
        return Loss(loss)

    def _run_round(self, learner: Learner, batch: Batch) -> Rollouts | None:
        """Run a round of the fast channel if one is due: a search for prompts, or shown answers.

        Return its rollouts under the prompts that are in use after it.
        """
        imitates = self.learn_from in IMITATES
        if not (imitates or isinstance(learner.adapter, Evolving)):
            return None
        if not self.cycle.is_due(steps=self._steps, rounds=int(self._costs["rounds"])):
            return None
        self._costs.add("rounds", 1)
        with self._costs.searching():
            if not imitates:
                return self._search(learner, batch)
            self._imitation.ask(batch, lambda *rows: self.play(learner, batch, *rows), self.layout, self._costs)
            return None

    def _search(self, learner: Learner, batch: Batch) -> Rollouts | None:
        assert isinstance(learner.adapter, Evolving)
        # Behind these functions a search needs no model: any policy that plays will do.
        play = Play(
            answer=lambda problem_R, prompt_RP: self.play(learner, batch, problem_R, prompt_RP),
            loss=lambda rollouts: self._prompt_loss(learner, batch, rollouts),
            group=self.group,
        )
        outcome = learner.adapter.evolve(learner.fast, play, batch, budget=self.cycle.fast_budget)
        learner.fast = learner.adapter.carry(outcome.state)
        self._costs.add("fast_rollouts", outcome.used)
        self._costs.add("proposals", outcome.proposals)
        self._costs.add("shown", outcome.shown)
        return outcome.rollouts

    def play(self, learner: Learner, batch: Batch, problem_R: Tensor, prompt_RP: Tensor) -> Rollouts:
        """Sample one answer for each index of a problem in `batch`, under the prompt beside it."""
        played = answers.play(
            learner.model, batch, problem_R, prompt_RP, layout=self.layout, temperature=self._temperature
        )
        self._costs.read(len(problem_R) * self.layout.context_len(batch))
        self._costs.generate(played.answer_RA.numel())
        return played

    def prompts(self, learner: Learner) -> Tensor:
        """The prompts in use, [K, P] or [K, P, D]: the adapter's, or the seed prompt alone."""
        if isinstance(learner.adapter, Evolving):
            return learner.adapter.emitted(learner.fast)
        return self._seed(learner)

    def _seed(self, learner: Learner) -> Tensor:
        return torch.tensor([self.layout.seed_prompt], device=next(learner.model.parameters()).device)

    def _in_use(self, learner: Learner) -> Tensor | None:
        """The prompts of a slow step's rollouts, [K, P] or [K, P, D]; None: those of the rows."""
        # Distillation learns from a prompt that its own answers do not see.
        is_searched = isinstance(learner.adapter, Evolving) and self.learn_from == "reward"
        return self.prompts(learner) if is_searched else None

    def _rollouts(
        self, learner: Learner, batch: Batch, prompt_KP: Tensor | None, searched: Rollouts | None
    ) -> Rollouts:
        """Return G rollouts of each problem, evenly over the prompts (None: under that of its row).

        If `reuse` is set, take what it can from `searched`, the rollouts of this step's round.
        """
        # Evenly, so that all prompts answer the same problems and their rewards can be compared.
        problem_B = torch.arange(len(batch.tokens_BT), device=batch.tokens_BT.device)
        prompts = 1 if prompt_KP is None else len(prompt_KP)
        problem_R, lane_R = evenly(problem_B, group=self.group, prompts=prompts)
        prompt_RP = self.layout.prompts(batch)[problem_R] if prompt_KP is None else prompt_KP[lane_R]
        if searched is None or not self.reuse or prompt_KP is None:
            return self.play(learner, batch, problem_R, prompt_RP)
        reused, missing = answers.match_rollouts(problem_R, prompt_RP, searched)
        # The round has counted these among its own, and no rollout is counted twice.
        self._costs.add("rollouts", -len(reused))
        fresh = self.play(learner, batch, problem_R[missing], prompt_RP[missing])
        return Rollouts.cat([searched.pick(reused), fresh])

    def _logp(
        self, learner: Learner, batch: Batch, rollouts: Rollouts, *, weights: dict[str, Tensor] | None = None
    ) -> Tensor:
        self._costs.read(len(rollouts.reward_R) * batch.tokens_BT.shape[1])
        return answers.answer_logp(
            learner.model, batch, rollouts, layout=self.layout, temperature=self._temperature, weights=weights
        )

    def _prompt_loss(self, learner: Learner, batch: Batch, rollouts: Rollouts) -> Tensor:
        """The policy loss of a gradient step on soft prompts."""
        # All rollouts are read, so that prompts without mixed rewards get a gradient of zero.
        loss = self._gradient.loss(rollouts, lambda needed: self._logp(learner, batch, needed), read_all=True)
        assert loss.value is not None, "every rollout is read"
        return loss.value

    def _slow_loss(self, learner: Learner, batch: Batch, rollouts: Rollouts) -> Tensor:
        """The policy loss of a slow step, with its regularisers."""
        value, observed = self._gradient.slow_loss(
            rollouts,
            lambda needed: self._logp(learner, batch, needed),
            lambda: self._logp(learner, batch, rollouts, weights=self.base),
        )
        for name, number in observed.items():
            self._watched[name].append(number)
        return zero_loss(learner.model) if value is None else value

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
        self._costs.pause()
        return self._costs.sums()

    def learned(self, learner: Learner, task: int) -> None:
        # A task that returns later replaces its prompt.
        self.archive[task] = self.prompts(learner)[0]

    def state(self) -> dict[str, Tensor]:
        # Without the base: `begin` has copied its weights before `restore` is called.
        archive = {f"archive.{task}": prompt_P for task, prompt_P in self.archive.items()}
        return {"steps": torch.tensor(self._steps)} | self._costs.state() | self._imitation.state() | archive

    def restore(self, state: dict[str, Tensor]) -> None:
        self._steps = int(state["steps"])
        self._costs.restore(state)
        self._imitation.restore(state)
        self.archive = {int(k.removeprefix("archive.")): x for k, x in state.items() if k.startswith("archive.")}
