"""`der`: rows of earlier tasks are read again, and must give the logits that were stored with them.

    loss = data + alpha * mean (z - z_stored)^2 + beta * data(memory rows)
    means over scored tokens and outputs

Dark experience replay (Buzzega et al. 2020, arXiv 2004.07211); with beta > 0 it is DER++. alpha and
beta are the paper's: each of the three terms is a mean of its own. Unlike in the paper, both memory
terms share one draw of rows, rows come from earlier tasks only (replay.py), and only the outputs
that compete in a row count. Stored logits were read from the fast state of their time; memory rows
are read from the initial one.
Memory: as replay, and 4 bytes x scored tokens x outputs a row (fp32; running text of 256 tokens and
266 symbols: 272 kB a row). Cost of a step: the model reads `rows` more rows; it does not grow with
the number of tasks.

Shapes: B rows, T time, V outputs, S scored tokens of a row (padded), N scored tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.learner import Engine, Learner, cross_entropy
from ttt.strategies.rehearsal import Balance, Rehearsal, batch_of, columns_of
from ttt.strategies.shared import AtLeastOne, Coefficient
from ttt.stream import IGNORE, Batch


class Der(Rehearsal):
    """Arguments are explained in conf/strategy/der.yaml."""

    needs_likelihood = True

    def __init__(
        self,
        *,
        name: str,
        size: AtLeastOne,
        rows: AtLeastOne | None,
        balance: Balance,
        alpha: Coefficient,
        beta: Coefficient,
    ) -> None:
        super().__init__(name=name, size=size, rows=rows, balance=balance)
        self._alpha, self._beta = alpha, beta
        # Memory rows of the present batch, and their logits [B, S, V].
        self._again: tuple[Batch, Tensor] | None = None
        self._penalty: Tensor | None = None

    def memory(self, batch: Batch, *, step: int) -> Batch | None:
        columns = self.draw_columns()
        if columns is None:
            self._again = None
            return None
        rows = batch_of(columns)
        self._again = rows, columns["logits"]
        # The objective must not score them: their targets have a weight of their own, in `extra`.
        return rows._replace(targets_BT=torch.full_like(rows.targets_BT, IGNORE))

    def extra(self, learner: Learner, batch: Batch, logits_BTV: Tensor, *, own: int) -> Tensor | None:
        self._see_with_logits(batch.rows(0, own), logits_BTV[:own].detach())
        if self._again is None:
            return None
        rows, then_BSV = self._again
        # Behind the task's own rows come those that `memory` returned.
        again_BTV = logits_BTV[own:]
        term = self._alpha * squared_distance(again_BTV, then_BSV, rows)
        if self._beta:
            term = term + self._beta * cross_entropy(again_BTV, rows, reduction="mean")
        self._penalty = term.detach()
        return term

    def end_task(self, engine: Engine, index: int) -> None:
        super().end_task(engine, index)
        # What the last batch drew is no memory.
        self._again = None

    def terms(self) -> dict[str, float]:
        return {} if self._penalty is None else {"penalty": float(self._penalty)}

    def _see_with_logits(self, batch: Batch, logits_BTV: Tensor) -> None:
        rows, places = self.choose(batch)
        if not len(rows):
            return
        columns = columns_of(batch, rows)
        # Select before packing: most batches leave few rows, and logits are large.
        logits_BTV = logits_BTV.index_select(0, torch.from_numpy(rows).to(logits_BTV.device))
        self.keep(columns | {"logits": packed(logits_BTV.float(), columns["targets"])}, places)


def packed(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Return the logits of the scored tokens, [B, S, V]; zeros behind the last one of a row."""
    scored_BT = targets_BT != IGNORE
    is_there_BS = _is_there(scored_BT, width=int(scored_BT.sum(1).max()))
    logits_BSV = logits_BTV.new_zeros(*is_there_BS.shape, logits_BTV.shape[-1])
    # Both masks run through their rows in order, so the k-th scored token lands in place k.
    logits_BSV[is_there_BS] = logits_BTV[scored_BT]
    return logits_BSV


def squared_distance(now_BTV: Tensor, then_BSV: Tensor, batch: Batch) -> Tensor:
    """Return the mean over scored tokens and the outputs that compete there."""
    scored_BT = batch.targets_BT != IGNORE
    then_NV = then_BSV[_is_there(scored_BT, width=then_BSV.shape[1])]
    squares_NV = (now_BTV[scored_BT].float() - then_NV).square()
    if batch.outputs_BV is None:
        return squares_NV.mean()
    # The flags of a row count for each of its scored tokens.
    competes_NV = batch.outputs_BV[:, None].expand_as(now_BTV)[scored_BT]
    return (squares_NV * competes_NV).sum() / competes_NV.sum()


def _is_there(scored_BT: Tensor, *, width: int) -> Tensor:
    """Return which of `width` places hold logits, [B, S]: the first ones of each row."""
    return torch.arange(width, device=scored_BT.device) < scored_BT.sum(1, keepdim=True)
