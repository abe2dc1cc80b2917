"""`prompt_pool`: a population of prompts, the fast channel of Fast-Slow Training (arXiv 2605.12484).

    state   prompts N x P, their rewards on the problems of the last round N x V, and K of them that are in use
    read    the plain model; rows that carry the seed prompt are read with the best prompt in its place
    write   `evolve`, a round of search by reward (ttt/prompts/): reading writes nothing

Token ids are stored as differences to the seed prompt, so that zero is the seed prompt alone.
Shapes: B rows, T time, V vocabulary; L lanes, N prompts, P words of a prompt, Q problems, K prompts in use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ttt.adapters.base import FastState, Reset
from ttt.adapters.evolving import Round
from ttt.models.cache import Cache
from ttt.prompts.bench import Bench
from ttt.prompts.evolve import Pool, Search, evolve
from ttt.prompts.gepa_search import search_by_gepa
from ttt.prompts.pareto import frontier
from ttt.prompts.rollouts import Play
from ttt.prompts.settings import asked, check_choices, check_counts
from ttt.stream import Batch, Layout, Prompt

NAN = float("nan")


class PromptPool:
    """Arguments are explained in conf/adapter/prompt_pool.yaml; `layout` is what the task says of its rows."""

    reusable = True

    def __init__(
        self,
        *,
        name: str,
        reset: Reset,
        emit: int,
        pool: int,
        proposals: int,
        minibatch: int,
        problems: int,
        proposer: str,
        propose: str | None,
        search: str,
        accept: str,
        layout: Layout | None,
    ) -> None:
        if layout is None:
            raise ValueError(
                f"adapter={name}: searches for prompts, and the rows of this task hold none; use task=reward-sequence"
            )
        if len(layout.words) < 2:
            raise ValueError(f"adapter={name}: the prompts of this task can say one thing only")
        check_counts(emit=emit, pool=pool, proposals=proposals, minibatch=minibatch, problems=problems)
        check_choices(reset=reset, proposer=proposer, search=search, accept=accept)
        self.name, self.reset, self._layout = name, reset, layout
        self._search = Search(emit, pool, proposals, minibatch, problems, equal=accept == "equal")
        self._propose = asked(proposer, propose, search=search, layout=layout)
        self._find = search_by_gepa if search == "gepa" else evolve
        self._device: Tensor | None = None

    def attach(self, model: nn.Module) -> None:
        """Nothing is added. States are made where the model is."""
        self._device = next(model.parameters(), None)

    def initial(self) -> FastState:
        """The seed prompt alone: a pool of size 0, `age` rounds old."""
        search, words = self._search, self._layout.prompt_len
        shapes = {
            "prompts": (search.pool, words),
            "record": (search.pool, search.problems),
            "emitted": (search.emit,),
            "size": (),
            "problems": (),
            "age": (),
        }
        device = None if self._device is None else self._device.device
        return {name: torch.zeros(1, *shape, device=device) for name, shape in shapes.items()}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        """Reading writes nothing, `write` or not: rewards do (`evolve`).

        With `cache`, prompts stand in the first piece, which must hold the whole of them. Whether a row carries the
        seed prompt is known behind it: scores inside a prompt mean nothing.
        """
        is_first = cache is None or not cache.tensors
        tokens_BT = self.with_prompt(batch.tokens_BT, state) if is_first else batch.tokens_BT
        return model(tokens_BT, segment_BT=batch.segment_BT, cache=cache), state

    def with_prompt(self, tokens_BT: Tensor, state: FastState) -> Tensor:
        """Rows with the best prompt in place of the seed prompt; those that carry another one stay."""
        words = self._layout.prompt_len
        if tokens_BT.shape[1] < words:
            assert not any(bool(x.any()) for x in state.values()), "a row is read with its whole prompt, or without"
            return tokens_BT
        old_BP = tokens_BT[:, :words]
        best_LP = self._emitted(state).to(tokens_BT.device)[:, 0]
        bare_B1 = (old_BP == self._seed(tokens_BT.device)).all(1, keepdim=True)
        return torch.cat([torch.where(bare_B1, best_LP, old_BP), tokens_BT[:, words:]], 1)

    def prompt_vectors(self, tokens_BT: Tensor, state: FastState) -> None:
        """Its prompts are words."""

    def emitted(self, state: FastState) -> Tensor:
        """The prompts in use [K, P], the best first; some twice where the pool holds fewer."""
        return self._emitted(state)[0]

    def evolve(self, state: FastState, play: Play, batch: Batch, *, budget: int) -> Round:
        """A round of search with at most `budget` rollouts, slow weights as they are. Draws from torch's global
        generator. Without a budget the state stays."""
        bench = Bench(play, batch, self._layout, budget=budget)
        known = self._known(state)
        found = self._drawn() if self._propose is None else self._find(known, self._propose, bench, self._search)
        after = state if found is None else self._written(found) | {"age": state["age"][:1] + 1}
        in_use = [tuple(prompt) for prompt in self.emitted(after).tolist()]
        return Round(after, bench.used, bench.under(in_use))

    def min_rollouts(self, *, rows: int, group: int) -> int:
        """Parent and child on a small batch, and both on a problem."""
        return 0 if self._propose is None else 2 * self._search.tried(rows) + 2

    def holding(self, prompt: Tensor) -> FastState:
        """A state with this prompt [P] in use, and no other; of its rewards nothing is known."""
        return self._written(Pool([tuple(prompt.tolist())], torch.zeros(1, 0), [0]))

    def carry(self, state: FastState) -> FastState:
        """Unchanged: all lanes are one."""
        return {name: x[:1].detach() for name, x in state.items()}

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return "the plain model behind a prompt"

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """Prompts in the pool, on the frontier and in use; the best one's mean reward when it was last scored; the
        share of its words that are not the seed prompt's."""
        size, problems = max(int(state["size"]), 1), int(state["problems"])
        best, record_NQ = int(state["emitted"][0, 0]), state["record"][0, :size, :problems]
        return {
            "pool": float(size),
            "frontier": float(frontier(record_NQ).sum()) if problems else NAN,
            "emitted": float(len(self.emitted(state).unique(dim=0))),
            "best_record": float(record_NQ[best].mean()) if problems else NAN,
            "words_changed": float((state["prompts"][0, best] != 0).float().mean()),
            "rounds": float(state["age"]),
        }

    def _seed(self, device: torch.device) -> Tensor:
        return torch.tensor(self._layout.seed_prompt, device=device)

    def _emitted(self, state: FastState) -> Tensor:
        """[L, K, P]"""
        index_LKP = state["emitted"].long()[..., None].expand(-1, -1, self._layout.prompt_len)
        change_LKP = state["prompts"].gather(1, index_LKP)
        return change_LKP.round().long() + self._seed(change_LKP.device)

    def _known(self, state: FastState) -> Sequence[Prompt]:
        """The pool, those in use first, the best of them first of all."""
        size = max(int(state["size"]), 1)
        prompt_NP = state["prompts"][0, :size].round().long() + self._seed(state["prompts"].device)
        in_use = [int(n) for n in state["emitted"][0]]
        order = dict.fromkeys([*in_use, *range(size)])
        return [tuple(prompt_NP[n].tolist()) for n in order]

    def _written(self, pool: Pool) -> FastState:
        """`pool` as named tensors."""
        after = self.initial()
        size, problems = pool.score_NV.shape
        device = after["prompts"].device
        after["prompts"][0, :size] = (torch.tensor(pool.prompts, device=device) - self._seed(device)).float()
        after["record"][0, :size, :problems] = pool.score_NV.to(device)
        # Fewer prompts than places: the same again.
        index = [pool.emitted[k % len(pool.emitted)] for k in range(self._search.emit)]
        after["emitted"][0] = torch.tensor(index, device=device)
        after["size"][0], after["problems"][0] = size, problems
        return after

    def _drawn(self) -> Pool:
        """K prompts of random words, of which nothing is asked."""
        words, emit = self._layout.words, self._search.emit
        drawn = torch.randint(len(words), (emit, self._layout.prompt_len)).tolist()
        return Pool([tuple(words[i] for i in row) for row in drawn], torch.zeros(emit, 0), list(range(emit)))
