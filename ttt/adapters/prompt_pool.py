"""`prompt_pool`: a population of prompts, the fast channel of Fast-Slow Training.

    state   N prompts of P words, their rewards on the Q problems of the last round, and which K of
            them are in use
    read    the plain model; the best prompt replaces the seed prompt in rows that carry it
    write   `evolve`, a round of search by reward (ttt/prompts/): reading writes nothing

Fast-Slow Training: arXiv 2605.12484. Token ids are stored as differences to the seed prompt, so
that zeros mean the seed prompt alone.
Shapes: B rows, T time, V vocabulary; L lanes, N prompts, P words of a prompt, Q problems, K prompts
in use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ttt.adapters.base import FastState, Reset, RunsOn
from ttt.adapters.evolving import Round
from ttt.models.cache import Cache
from ttt.prompts.bench import Bench
from ttt.prompts.evolve import Pool, Search, evolve
from ttt.prompts.gepa_search import search_by_gepa
from ttt.prompts.pareto import pareto_frontier
from ttt.prompts.rollouts import Play
from ttt.prompts.settings import (
    AcceptRule,
    Count,
    PromptReset,
    ProposerName,
    SearchName,
    build_proposer,
    check_emit,
)
from ttt.stream import Batch, Layout, Prompt

NAN = float("nan")


class PromptPool:
    """Arguments are explained in conf/adapter/prompt_pool.yaml.

    `layout`: the task's description of its rows; None if its rows hold no prompt.
    """

    runs_on: RunsOn = "any"
    # Prompts do not change between rounds, so rollouts of a round stay on-policy for those in use.
    reusable = True
    reset: Reset

    def __init__(
        self,
        *,
        name: str,
        reset: PromptReset,
        emit: Count,
        pool: Count,
        proposals: Count,
        minibatch: Count,
        problems: Count,
        proposer: ProposerName,
        propose: str | None,
        search: SearchName,
        accept: AcceptRule,
        layout: Layout | None,
    ) -> None:
        if layout is None:
            raise ValueError(
                f"adapter={name}: searches for prompts, and the rows of this task hold none; use task=reward-sequence"
            )
        if len(layout.words) < 2:
            raise ValueError(f"adapter={name}: the prompts of this task can say one thing only")
        check_emit(emit=emit, pool=pool)
        self.name, self._layout = name, layout
        self.reset: Reset = reset
        self._search = Search(emit, pool, proposals, minibatch, problems, equal=accept == "equal")
        self._propose = build_proposer(proposer, propose, search=search, layout=layout)
        # A blind proposer gets the records of what failed, but does not read them.
        self._reads = proposer != "mutate"
        self._find = search_by_gepa if search == "gepa" else evolve
        # A parameter, not its device: the model may move to another device after `attach`.
        self._parameter: Tensor | None = None

    def attach(self, model: nn.Module) -> None:
        """Add nothing to the model; only note where its parameters lie."""
        self._parameter = next(model.parameters(), None)

    def initial(self) -> FastState:
        """The seed prompt alone: a pool of size 0, zero rounds old."""
        search, words = self._search, self._layout.prompt_len
        # Sizes and indices are tensors as well: a checkpoint stores a state as named tensors.
        shapes = {
            "prompts": (search.pool, words),
            "record": (search.pool, search.problems),
            "emitted": (search.emit,),
            "size": (),
            "problems": (),
            "age": (),
        }
        device = None if self._parameter is None else self._parameter.device
        return {name: torch.zeros(1, *shape, device=device) for name, shape in shapes.items()}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        """Read without writing, whatever `write` says: only rewards change the pool (`evolve`).

        With `cache`, prompts stand in the first piece, which must hold them whole. Scores inside
        a prompt mean nothing, because the row is only recognised after its whole prompt is read.
        """
        is_first = cache is None or cache.is_empty
        tokens_BT = self.with_prompt(batch.tokens_BT, state) if is_first else batch.tokens_BT
        return model(tokens_BT, segment_BT=batch.segment_BT, cache=cache), state

    def with_prompt(self, tokens_BT: Tensor, state: FastState) -> Tensor:
        """Rows with the best prompt in place of the seed prompt; other prompts stay."""
        words = self._layout.prompt_len
        # A shorter piece cannot be recognised as one with the seed prompt.
        if tokens_BT.shape[1] < words:
            assert not any(bool(x.any()) for x in state.values()), "a row is read with its whole prompt, or without"
            return tokens_BT
        old_BP = tokens_BT[:, :words]
        best_LP = self._emitted(state).to(tokens_BT.device)[:, 0]
        has_seed_B1 = (old_BP == self._seed(tokens_BT.device)).all(1, keepdim=True)
        return torch.cat([torch.where(has_seed_B1, best_LP, old_BP), tokens_BT[:, words:]], 1)

    def prompt_vectors(self, tokens_BT: Tensor, state: FastState) -> None:
        """None: prompts are token ids, and nothing is added to their embeddings."""

    def emitted(self, state: FastState) -> Tensor:
        """The prompts in use [K, P], the best first; with repeats where the pool holds fewer."""
        return self._emitted(state)[0]

    def evolve(self, state: FastState, play: Play, batch: Batch, *, budget: int) -> Round:
        """Run one round of search with at most `budget` rollouts; slow weights do not change.

        Draws from torch's global generator. Without a budget the state stays.
        """
        bench = Bench(play, batch, self._layout, budget=budget)
        if self._propose is None:
            pool: Pool | None = self._random_pool()
        else:
            pool = self._find(self._prompts(state), self._propose, bench, self._search)
        after = state if pool is None else self._state_of(pool) | {"age": state["age"][:1] + 1}
        in_use = [tuple(prompt) for prompt in self.emitted(after).tolist()]
        shown = bench.shown if self._reads else 0
        return Round(after, bench.used, bench.under(in_use), proposals=bench.proposals, shown=shown)

    def min_rollouts(self, *, rows: int, group: int) -> int:
        """Parent and child each need a minibatch of rollouts, and one scored problem."""
        return 0 if self._propose is None else 2 * self._search.minibatch_size(rows) + 2

    def holding(self, prompt: Tensor) -> FastState:
        """A state in which this prompt [P] is the only one in use, without a record of rewards."""
        return self._state_of(Pool([tuple(prompt.tolist())], torch.zeros(1, 0), [0]))

    def carry(self, state: FastState) -> FastState:
        """The state as it is: all lanes share one pool."""
        return {name: x[:1].detach() for name, x in state.items()}

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return "the plain model behind a prompt"

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """Numbers of the pool and of its best prompt.

        `pool`, `frontier`, `emitted`: prompts in the pool, on its Pareto frontier, different ones
        in use; `best_record`: the best prompt's mean reward when it was last scored;
        `words_changed`: the share of its words that differ from the seed prompt.
        """
        size, problems = max(int(state["size"]), 1), int(state["problems"])
        best, record_NQ = int(state["emitted"][0, 0]), state["record"][0, :size, :problems]
        return {
            "pool": float(size),
            "frontier": float(pareto_frontier(record_NQ).sum()) if problems else NAN,
            "emitted": float(len(self.emitted(state).unique(dim=0))),
            "best_record": float(record_NQ[best].mean()) if problems else NAN,
            "words_changed": float((state["prompts"][0, best] != 0).float().mean()),
            "rounds": float(state["age"]),
        }

    def _seed(self, device: torch.device) -> Tensor:
        return torch.tensor(self._layout.seed_prompt, device=device)

    def _emitted(self, state: FastState) -> Tensor:
        """The prompts in use, [L, K, P]."""
        index_LKP = state["emitted"].long()[..., None].expand(-1, -1, self._layout.prompt_len)
        # Rounded: differences are stored as fp32, and a mean over lanes may be slightly off.
        change_LKP = state["prompts"].gather(1, index_LKP)
        return change_LKP.round().long() + self._seed(change_LKP.device)

    def _prompts(self, state: FastState) -> Sequence[Prompt]:
        """The prompts of the pool: first those in use, the best one in front."""
        size = max(int(state["size"]), 1)
        prompt_NP = state["prompts"][0, :size].round().long() + self._seed(state["prompts"].device)
        in_use = [int(n) for n in state["emitted"][0]]
        # A dict keeps the order and drops repeats.
        order = dict.fromkeys([*in_use, *range(size)])
        return [tuple(prompt_NP[n].tolist()) for n in order]

    def _state_of(self, pool: Pool) -> FastState:
        """The pool as a state of named tensors."""
        after = self.initial()
        size, problems = pool.score_NV.shape
        device = after["prompts"].device
        after["prompts"][0, :size] = (torch.tensor(pool.prompts, device=device) - self._seed(device)).float()
        after["record"][0, :size, :problems] = pool.score_NV.to(device)
        # A pool with fewer than K prompts fills the remaining places with repeats.
        index = [pool.emitted[k % len(pool.emitted)] for k in range(self._search.emit)]
        after["emitted"][0] = torch.tensor(index, device=device)
        after["size"][0], after["problems"][0] = size, problems
        return after

    def _random_pool(self) -> Pool:
        """K prompts of random words, without a search: the control of how much diversity gives."""
        words, emit = self._layout.words, self._search.emit
        index = torch.randint(len(words), (emit, self._layout.prompt_len)).tolist()
        return Pool([tuple(words[i] for i in row) for row in index], torch.zeros(emit, 0), list(range(emit)))
