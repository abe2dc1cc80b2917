"""`soft_prompt`: K soft prompts, trained by the slow weights' reward at a rate of their own.

    x_p = E[seed prompt]_p + S_kp       S_k <- S_k - step * Adam(grad of the policy gradient's loss)
    read    the plain model; the best S is added to the embeddings of a row's seed prompt
    write   `evolve`, a round of gradient steps (ttt/prompts/): reading writes nothing

The fast channel of Fast-Slow Training (arXiv 2605.12484) with prompt tuning (arXiv 2104.08691) in
place of a search.
Shapes: B rows, T time, V vocabulary; K prompts in use, P tokens of a prompt, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ttt.adapters.base import FastState, Reset, RunsOn
from ttt.adapters.evolving import Round
from ttt.models.cache import Cache
from ttt.prompts.gradient import Ascent, SoftPrompts, train_prompts
from ttt.prompts.rollouts import Play
from ttt.prompts.settings import Count, Positive, PromptReset
from ttt.prompts.vectors import adding
from ttt.stream import Batch, Layout

NAN = float("nan")


class SoftPrompt:
    """Arguments are explained in conf/adapter/soft_prompt.yaml.

    `layout`: the task's description of its rows; None if its rows hold no prompt.
    """

    runs_on: RunsOn = "any"
    # Prompts move after each rollout, so no rollout comes from a prompt that is in use later.
    reusable = False
    reset: Reset

    def __init__(
        self,
        *,
        name: str,
        reset: PromptReset,
        emit: Count,
        step: Positive,
        steps: Count,
        problems: Count,
        spread: Positive,
        layout: Layout | None,
    ) -> None:
        if layout is None:
            raise ValueError(
                f"adapter={name}: trains prompts, and the rows of this task hold none; use task=reward-sequence"
            )
        self.name, self._layout = name, layout
        self.reset: Reset = reset
        self._ascent = Ascent(emit, step, steps, problems, spread)
        self._embedding: Tensor

    def attach(self, model: nn.Module) -> None:
        """Add nothing to the model. Raises ValueError for a model without a table of embeddings."""
        embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
        if not isinstance(embedding, nn.Embedding):
            raise ValueError(
                f"adapter={self.name}: adds to embeddings, and {type(model).__name__} has no table of them"
            )
        self._embedding = embedding.weight

    def initial(self) -> FastState:
        """K times the seed prompt; the first round starts from independent draws around it."""
        shape = (1, self._ascent.emit, self._layout.prompt_len, self._embedding.shape[1])
        shapes = {"prompt": shape, "first": shape, "second": shape, "record": shape[:2], "steps": (1,)}
        return {name: torch.zeros(*size, device=self._embedding.device) for name, size in shapes.items()}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        """Read without writing, whatever `write` says: only rewards move the prompts (`evolve`).

        With `cache`, prompts stand in the first piece, which must hold them whole.
        """
        is_first = cache is None or cache.is_empty
        with adding(model, self.prompt_vectors(batch.tokens_BT, state) if is_first else None):
            return model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache), state

    def with_prompt(self, tokens_BT: Tensor, state: FastState) -> Tensor:
        """The rows as they are: the prompt is in their embeddings (`prompt_vectors`)."""
        return tokens_BT

    def prompt_vectors(self, tokens_BT: Tensor, state: FastState) -> Tensor | None:
        """The best prompt [B, P, D] for rows with the seed prompt; zeros for rows with another."""
        words = self._layout.prompt_len
        # A shorter piece cannot be recognised as one with the seed prompt.
        if tokens_BT.shape[1] < words:
            assert not bool(state["prompt"].any()), "a row is read with its whole prompt, or without"
            return None
        has_seed_B = (tokens_BT[:, :words] == torch.tensor(self._layout.seed_prompt, device=tokens_BT.device)).all(1)
        return torch.where(has_seed_B[:, None, None], state["prompt"][:, 0], 0.0)

    def emitted(self, state: FastState) -> Tensor:
        """The prompts in use [K, P, D], the best first."""
        return state["prompt"][0]

    def evolve(self, state: FastState, play: Play, batch: Batch, *, budget: int) -> Round:
        """Run one round of gradient steps with at most `budget` rollouts.

        Slow weights do not change. Draws from torch's global generator. Without a budget the state
        stays.
        """
        names = ("prompt", "first", "second", "record", "steps")
        # The first draws are as wide as embeddings, whose spread differs from model to model.
        scale = float(self._embedding.detach().float().std())
        before, rows = SoftPrompts(*(state[name][0] for name in names)), len(batch.tokens_BT)
        prompts, used = train_prompts(before, play, self._ascent, rows=rows, budget=budget, scale=scale)
        after = (prompts.prompt_KPD, prompts.first_KPD, prompts.second_KPD, prompts.record_K, prompts.taken)
        return Round({name: x.detach()[None] for name, x in zip(names, after, strict=True)}, used, None)

    def min_rollouts(self, *, rows: int, group: int) -> int:
        """One step needs one group of answers to one problem."""
        return group

    def holding(self, prompt: Tensor) -> FastState:
        """A state in which this prompt [P, D] is the only one in use, without any record."""
        state = self.initial()
        # Cloned: `expand` alone would let all K prompts share their numbers.
        return state | {"prompt": prompt.to(state["prompt"]).expand_as(state["prompt"]).clone()}

    def carry(self, state: FastState) -> FastState:
        """The state as it is: all lanes share the prompts."""
        return {name: x[:1].detach() for name, x in state.items()}

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return "the plain model behind a soft prompt"

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """Numbers of the prompts, lengths in units of a random embedding's length.

        `norm`: mean norm of a prompt's vectors; `distance`: mean distance between the vectors of
        two prompts at one place; `best_record`: the best prompt's mean reward in the last round;
        `steps`: gradient steps so far.
        """
        prompt_KPD, emit = state["prompt"][0], self._ascent.emit
        unit = float(self._embedding.detach().float().std()) * prompt_KPD.shape[-1] ** 0.5
        distance_KK = (prompt_KPD[:, None] - prompt_KPD[None]).norm(dim=-1).mean(-1)
        steps = float(state["steps"])
        return {
            "norm": float(prompt_KPD.norm(dim=-1).mean()) / unit,
            "distance": float(distance_KK.sum()) / (emit * (emit - 1)) / unit if emit > 1 else NAN,
            "best_record": float(state["record"][0, 0]) if steps else NAN,
            "steps": steps,
        }
