"""`soft_prompt`: K soft prompts, trained by the same reward as the slow weights, at a rate of their own.

    x_p = E[seed prompt]_p + S_kp       S_k <- S_k - step * Adam(grad of the policy gradient's loss)
    read    the plain model; to the embeddings of a row's seed prompt the best S is added
    write   `evolve`, a round of gradient steps, slow weights as they are (ttt/prompts/): reading writes nothing

The fast channel of Fast-Slow Training (arXiv 2605.12484) with prompt tuning (arXiv 2104.08691) in place of a search.
Shapes: B rows, T time, V vocabulary; K prompts in use, P tokens of a prompt, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ttt.adapters.base import FastState, Reset
from ttt.adapters.evolving import Round
from ttt.models.cache import Cache
from ttt.prompts.gradient import Ascent, Prompts, climb
from ttt.prompts.rollouts import Play
from ttt.prompts.settings import check_reset
from ttt.prompts.vectors import adding
from ttt.stream import Batch, Layout

NAN = float("nan")


class SoftPrompt:
    """Arguments are explained in conf/adapter/soft_prompt.yaml; `layout` is what the task says of its rows."""

    # Prompts move after each rollout.
    reusable = False

    def __init__(
        self,
        *,
        name: str,
        reset: Reset,
        emit: int,
        step: float,
        steps: int,
        problems: int,
        spread: float,
        layout: Layout | None,
    ) -> None:
        if layout is None:
            raise ValueError(
                f"adapter={name}: trains prompts, and the rows of this task hold none; use task=reward-sequence"
            )
        check_reset(reset)
        self.name, self.reset, self._layout = name, reset, layout
        self._ascent = Ascent(emit, step, steps, problems, spread)
        self._embedding: Tensor

    def attach(self, model: nn.Module) -> None:
        """Nothing is added. Raises ValueError for a model that has no table of embeddings."""
        embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
        if not isinstance(embedding, nn.Embedding):
            raise ValueError(
                f"adapter={self.name}: adds to embeddings, and {type(model).__name__} has no table of them"
            )
        self._embedding = embedding.weight

    def initial(self) -> FastState:
        """The seed prompt, K times."""
        shape = (1, self._ascent.emit, self._layout.prompt_len, self._embedding.shape[1])
        shapes = {"prompt": shape, "first": shape, "second": shape, "record": shape[:2], "steps": (1,)}
        return {name: torch.zeros(*size, device=self._embedding.device) for name, size in shapes.items()}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        """Reading writes nothing, `write` or not: rewards do (`evolve`).

        With `cache`, prompts stand in the first piece, which must hold the whole of them.
        """
        is_first = cache is None or not cache.tensors
        with adding(model, self.prompt_vectors(batch.tokens_BT, state) if is_first else None):
            return model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache), state

    def with_prompt(self, tokens_BT: Tensor, state: FastState) -> Tensor:
        """Rows as they are."""
        return tokens_BT

    def prompt_vectors(self, tokens_BT: Tensor, state: FastState) -> Tensor | None:
        """[B, P, D]: the best prompt for rows that carry the seed prompt, zero for those that carry another one."""
        words = self._layout.prompt_len
        if tokens_BT.shape[1] < words:
            assert not bool(state["prompt"].any()), "a row is read with its whole prompt, or without"
            return None
        bare_B = (tokens_BT[:, :words] == torch.tensor(self._layout.seed_prompt, device=tokens_BT.device)).all(1)
        return torch.where(bare_B[:, None, None], state["prompt"][:, 0], 0.0)

    def emitted(self, state: FastState) -> Tensor:
        """The prompts in use [K, P, D], the best first."""
        return state["prompt"][0]

    def evolve(self, state: FastState, play: Play, batch: Batch, *, budget: int) -> Round:
        """A round of gradient with at most `budget` rollouts, slow weights as they are. Draws from torch's global
        generator. Without a budget the state stays."""
        names = ("prompt", "first", "second", "record", "steps")
        scale = float(self._embedding.detach().float().std())
        before, rows = Prompts(*(state[name][0] for name in names)), len(batch.tokens_BT)
        found, used = climb(before, play, self._ascent, rows=rows, budget=budget, scale=scale)
        after = (found.prompt_KPD, found.first_KPD, found.second_KPD, found.record_K, found.taken)
        return Round({name: x.detach()[None] for name, x in zip(names, after, strict=True)}, used, None)

    def min_rollouts(self, *, rows: int, group: int) -> int:
        """A group of answers to one problem."""
        return group

    def holding(self, prompt: Tensor) -> FastState:
        """A state with this prompt [P, D] in use, and no other; of its rewards nothing is known."""
        state = self.initial()
        return state | {"prompt": prompt.to(state["prompt"]).expand_as(state["prompt"]).clone()}

    def carry(self, state: FastState) -> FastState:
        """Unchanged: all lanes are one."""
        return {name: x[:1].detach() for name, x in state.items()}

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return "the plain model behind a soft prompt"

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """Mean norm of a vector of the prompts, mean distance of a vector from that of another prompt (both in spreads
        of an embedding's entries times sqrt(D)), the best one's mean reward in the last round, steps taken."""
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
