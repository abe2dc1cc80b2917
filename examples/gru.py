"""`gru`: a recurrent network, which reads one token after another and has no attention.

    h_t = GRU(embed(x_t), h_(t-1));  logits_t = embed^T h_t

Shapes: B batch (lanes), T time, D width, V vocabulary.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from ttt.models.cache import Cache


class Gru(nn.Module):
    def __init__(self, *, name: str, vocab_size: int, width: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.name = name
        self.embed_tokens = nn.Embedding(vocab_size, width)
        self.cell = nn.GRUCell(width, width)
        nn.init.normal_(self.embed_tokens.weight, std=width**-0.5)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def forward(self, tokens_BT: Tensor, *, segment_BT: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        segment_BT = torch.zeros_like(tokens_BT) if segment_BT is None else segment_BT
        # A cache is named tensors: a reader in pieces goes on from the state and its document.
        kept = {} if cache is None else cache.tensors
        x_BTD = self.embed_tokens(tokens_BT)
        h_BD, document_B = kept.get("h", torch.zeros_like(x_BTD[:, 0])), kept.get("document", segment_BT[:, 0])
        states = []
        for t in range(tokens_BT.shape[1]):
            real_B = segment_BT[:, t] >= 0
            # A document begins from zeros; padding changes nothing.
            opens_B = real_B & (segment_BT[:, t] != document_B)
            h_BD = torch.where(opens_B[:, None], 0.0, h_BD)
            h_BD = torch.where(real_B[:, None], self.cell(x_BTD[:, t], h_BD), h_BD)
            document_B = torch.where(real_B, segment_BT[:, t], document_B)
            states.append(h_BD)
        if cache is not None:
            cache.tensors = {"h": h_BD, "document": document_B}
        return F.linear(torch.stack(states, dim=1), self.embed_tokens.weight)
