"""`reward`: slow weights by reinforcement learning, fast prompts by search or gradient, all for one verifiable reward.

    each cycle   the adapter betters its prompts on the first batch, slow weights frozen; then T slow steps:
    slow step    G rollouts of each problem x, evenly over the K prompts;  A = (r - mean_x) / std_x  over all G
                 loss = - mean_x mean_i mean_t  sg(min(p / p_old, clip)) A log p(y_t | prompt, x, y_<t)
                        - entropy * H(p) + kl * KL(p || base)

Fast-Slow Training (arXiv 2605.12484) with CISPO; problems whose rewards are all equal are left out. With adapter=none
it is reinforcement learning alone. Each batch is used once: in precision 32-true p = p_old up to rounding.
Shapes: B problems, G rollouts of each, R = B * G, K prompts, P prompt (vectors: P x D), A answer, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ttt.adapters.evolving import Evolving
from ttt.kernels import policy
from ttt.learner import Learner
from ttt.objectives.base import Loss, Objective
from ttt.objectives.lesson import Lesson, lesson
from ttt.objectives.settings import BASELINES, LESSONS, Cycle, check_choice, check_numbers
from ttt.prompts.rollouts import Play, Rollouts, evenly, sample_answers
from ttt.prompts.vectors import added_vectors, head_tokens, predict
from ttt.stream import Batch, Layout

COUNTS = ("steps", "rounds", "rollouts", "fast_rollouts")


class Reward(Objective):
    """Arguments are explained in conf/objective/reward.yaml. Its randomness is torch's own, kept in checkpoints."""

    is_plain = False

    def __init__(
        self,
        *,
        name: str,
        rollouts: int,
        temperature: float,
        baseline: str,
        clip: float,
        entropy: float,
        kl: float,
        learn_from: str,
        reuse: bool,
        cycle: dict[str, Any],
        layout: Layout | None,
    ) -> None:
        super().__init__(name=name)
        if layout is None:
            raise ValueError("objective=reward: needs problems with a verifiable answer; use task=reward-sequence")
        check_numbers(rollouts=rollouts, temperature=temperature, clip=clip, entropy=entropy, kl=kl)
        check_choice("baseline", baseline, BASELINES)
        check_choice("learn_from", learn_from, LESSONS)
        if learn_from == "prompt" and (entropy or kl):
            raise ValueError(
                "objective.learn_from=prompt: learns from no reward; use objective.entropy=0 objective.kl=0"
            )
        self.layout, self.group, self.reuse = layout, rollouts, reuse
        self._temperature, self.baseline, self._clip = temperature, baseline, clip
        self._entropy, self._kl, self.learn_from = entropy, kl, learn_from
        self.cycle = Cycle.read(cycle)
        self._counts = dict.fromkeys(COUNTS, 0)
        self._watched: dict[str, list[float]] = defaultdict(list)
        self.base: dict[str, Tensor] = {}
        # The best prompt at the end of each task.
        self.archive: dict[int, Tensor] = {}

    def begin(self, learner: Learner) -> None:
        self.base = {name: x.detach().clone() for name, x in learner.model.named_parameters()}

    def loss(self, learner: Learner, batch: Batch, *, own: int, learns: bool) -> Loss:
        made = self._search(learner, batch)
        self._counts["steps"] += 1
        if not learns:
            # Answers that move nothing need not be paid for.
            return Loss(self._nothing(learner))
        prompt_KP = self.prompts(learner) if self.learn_from == "reward" else self._seed(learner)
        rollouts = self._rollouts(learner, batch, prompt_KP, made)
        self._counts["rollouts"] += len(rollouts.reward_R)
        self._watched["reward"].append(float(rollouts.reward_R.mean()))
        # What was sampled is as surprising, in the mean, as the policy's entropy.
        self._watched["entropy"].append(-float(rollouts.logp_RA.mean()))
        if self.learn_from == "prompt":
            return Loss(self._distilled(learner, batch, rollouts))
        return Loss(self._rewarded(learner, batch, rollouts))

    def _search(self, learner: Learner, batch: Batch) -> Rollouts | None:
        """A round of the fast channel, where one is due; its rollouts under the prompts now in use."""
        if not isinstance(learner.adapter, Evolving):
            return None
        if not self.cycle.is_due(steps=self._counts["steps"], rounds=self._counts["rounds"]):
            return None
        play = Play(
            answer=lambda problem_R, prompt_RP: self.play(learner, batch, problem_R, prompt_RP),
            loss=lambda found: self._taught(learner, batch, found),
            group=self.group,
        )
        found = learner.adapter.evolve(learner.fast, play, batch, budget=self.cycle.fast_budget)
        learner.fast = learner.adapter.carry(found.state)
        self._counts["rounds"] += 1
        self._counts["fast_rollouts"] += found.used
        return found.rollouts

    def play(self, learner: Learner, batch: Batch, problem_R: Tensor, prompt_RP: Tensor) -> Rollouts:
        """One answer to each of these problems of `batch`, under these prompts."""
        asked_RT = torch.cat([head_tokens(prompt_RP, self.layout), self.layout.questions(batch)[problem_R]], 1)
        added_RPD = added_vectors(prompt_RP)
        answer_RA, logp_RA = sample_answers(
            lambda tokens, cache: predict(learner.model, tokens, added_RPD, cache=cache),
            asked_RT,
            length=self.layout.answer_len,
            temperature=self._temperature,
            alike=added_RPD is None,
        )
        reward_R = self.layout.verify(batch.pick(problem_R.cpu().numpy()), answer_RA)
        return Rollouts(problem_R, prompt_RP, answer_RA, logp_RA, reward_R.float())

    def prompts(self, learner: Learner) -> Tensor:
        """The prompts in use, [K, P] or [K, P, D]; without an adapter that evolves some it is the seed prompt."""
        if isinstance(learner.adapter, Evolving):
            return learner.adapter.emitted(learner.fast)
        return self._seed(learner)

    def _seed(self, learner: Learner) -> Tensor:
        return torch.tensor([self.layout.seed_prompt], device=next(learner.model.parameters()).device)

    def _rollouts(self, learner: Learner, batch: Batch, prompt_KP: Tensor, made: Rollouts | None) -> Rollouts:
        """G rollouts of each problem, evenly over the prompts; those already made are not made again."""
        problem_B = torch.arange(len(batch.tokens_BT), device=prompt_KP.device)
        problem_R, lane_R = evenly(problem_B, group=self.group, prompts=len(prompt_KP))
        prompt_RP = prompt_KP[lane_R]
        if made is None or not self.reuse or self.learn_from == "prompt":
            return self.play(learner, batch, problem_R, prompt_RP)
        old, missing = matched(problem_R, prompt_RP, made)
        self._counts["rollouts"] -= len(old)
        fresh = self.play(learner, batch, problem_R[missing], prompt_RP[missing])
        return Rollouts.cat([made.pick(old), fresh])

    def _logp(
        self, learner: Learner, batch: Batch, rollouts: Rollouts, *, weights: dict[str, Tensor] | None = None
    ) -> Tensor:
        """log p of every token that an answer could go on with, [R, A, V], at the temperature of sampling."""
        row_RT, added_RPD = rollouts.rows(batch, self.layout), added_vectors(rollouts.prompt_RP)
        logits = predict(learner.model, row_RT, added_RPD, weights=weights)
        return (logits[:, -self.layout.answer_len :].float() / self._temperature).log_softmax(-1)

    def _lesson(self, learner: Learner, batch: Batch, rollouts: Rollouts, *, every: bool) -> Lesson:
        return lesson(
            rollouts,
            lambda found: self._logp(learner, batch, found),
            baseline=self.baseline,
            clip=self._clip,
            every=every,
        )

    def _taught(self, learner: Learner, batch: Batch, rollouts: Rollouts) -> Tensor:
        """The loss of a step on rollouts of the fast channel."""
        loss = self._lesson(learner, batch, rollouts, every=True).loss
        assert loss is not None, "every rollout is read"
        return loss

    def _rewarded(self, learner: Learner, batch: Batch, rollouts: Rollouts) -> Tensor:
        found = self._lesson(learner, batch, rollouts, every=bool(self._entropy or self._kl))
        self._watched["zero_variance"].append(found.zero_variance)
        if found.loss is None or found.logp_RAV is None or found.gap is None:
            return self._nothing(learner)
        self._watched["logp_gap"].append(found.gap)
        return found.loss + self._leashed(learner, batch, rollouts, found.logp_RAV)

    def _nothing(self, learner: Learner) -> Tensor:
        """Nothing to learn from is a gradient of zero: moments go on."""
        return torch.stack([0.0 * x.sum() for x in learner.model.parameters()]).sum()

    def _leashed(self, learner: Learner, batch: Batch, rollouts: Rollouts, logp_RAV: Tensor) -> Tensor | float:
        """The entropy bonus and the distance from the base, where they are asked for."""
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

    def _distilled(self, learner: Learner, batch: Batch, rollouts: Rollouts) -> Tensor:
        """KL(without prompt || with the best one) on answers given without: reverse, on-policy (arXiv 2601.20802)."""
        logp_RAV = self._logp(learner, batch, rollouts)
        best_RP = self.prompts(learner)[[0] * len(rollouts.reward_R)]
        told = replace(rollouts, prompt_RP=best_RP)
        with torch.no_grad():
            teacher_RAV = self._logp(learner, batch, told)
        return policy.kl(logp_RAV, teacher_RAV).mean()

    def watched(self) -> dict[str, float]:
        found = {name: sum(values) / len(values) for name, values in self._watched.items()}
        self._watched.clear()
        return found

    def terms(self) -> dict[str, float]:
        return {name: float(self._counts[name]) for name in ("rounds", "rollouts", "fast_rollouts")}

    def learned(self, learner: Learner, task: int) -> None:
        self.archive[task] = self.prompts(learner)[0]

    def state(self) -> dict[str, Tensor]:
        counts = {name: torch.tensor(value) for name, value in self._counts.items()}
        return counts | {f"archive.{task}": prompt_P for task, prompt_P in self.archive.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._counts = {name: int(state[name]) for name in COUNTS}
        self.archive = {int(k.removeprefix("archive.")): x for k, x in state.items() if k.startswith("archive.")}


def matched(problem_R: Tensor, prompt_RP: Tensor, made: Rollouts) -> tuple[list[int], list[int]]:
    """Indices of `made` that serve wanted rollouts, each once, and indices of the wanted ones that none serves."""
    stock: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, key in enumerate(torch.cat([made.problem_R[:, None], made.prompt_RP], 1).tolist()):
        stock[tuple(key)].append(i)
    old, missing = [], []
    for i, key in enumerate(torch.cat([problem_R[:, None], prompt_RP], 1).tolist()):
        if stock[tuple(key)]:
            old.append(stock[tuple(key)].pop())
        else:
            missing.append(i)
    return old, missing
