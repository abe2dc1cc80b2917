"""`hf`: a pretrained language model of `transformers`, unchanged, read as models of ours are.

The model's own `forward` reads the tokens. Documents, padding, windows and rows that are read in
pieces reach it as a mask, as positions and as a cache, arguments that every decoder there takes. So
no file of a model is copied, nothing of the library is replaced, and one class serves all families.
Shapes: B batch (lanes), T time, P prefix vectors, A all keys, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from ttt.models.cache import Cache
from ttt.models.pretrained import Pretrained, load_pretrained

# What transformers calls a layer whose attention is full, or limited to a window.
FULL, SLIDING = "full_attention", "sliding_attention"


class HfModel(nn.Module):
    """Arguments are explained in conf/model/hf.yaml."""

    def __init__(
        self,
        *,
        name: str,
        revision: str | None,
        dtype: Literal["float32", "bfloat16"],
        attention: Literal["auto", "sdpa", "eager", "flash_attention_2"],
        window: Annotated[int, Ge(1)] | None,
        cache_dir: str,
        vocab_size: int,
        seq_len: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__()
        self.name, self.dtype = name, dtype
        which = Pretrained(name, revision=revision, cache_dir=cache_dir)
        self.lm: Any = load_pretrained(which, dtype=getattr(torch, dtype), attention=attention)
        self._attention = self.lm.config._attn_implementation
        self._check(vocab_size=vocab_size, seq_len=seq_len)
        # The window of each kind of layer; None: attention sees everything.
        self._windows = {kind: _narrower(own_window, window) for kind, own_window in windows_of(self.lm.config).items()}
        self.window, self._is_narrowed = _widest(self._windows.values()), window is not None
        self._cache_argument = cache_argument(self.lm)
        self.fingerprint = which.fingerprint()
        self.which = which
        # Torch counts the changes of a tensor, so that unchanged weights need not be saved again.
        self.published = {name: (id(p), p._version) for name, p in self.named_parameters()}
        # The parts of each block as published: a block that got others cannot be recomputed.
        self._parts = {id(block): parts_of(block) for block in self._blocks()}

    @property
    def revision(self) -> str | None:
        """The commit on the hub that the weights come from; None for a folder."""
        commit: str | None = getattr(self.lm.config, "_commit_hash", None)
        return commit

    def unchanged(self) -> frozenset[str]:
        """Return the names of parameters that nothing has changed since they were read."""
        return frozenset(
            name
            for name, parameter in self.named_parameters()
            if self.published.get(name) == (id(parameter), parameter._version)
        )

    def as_published(self) -> frozenset[str]:
        """Return those of `unchanged` that are frozen, so that nothing will change them."""
        return frozenset(name for name in self.unchanged() if not self.get_parameter(name).requires_grad)

    def recompute(self) -> int:
        """Keep only the inputs of blocks in training, and compute the rest again; return how many.

        A block with fast weights keeps all: when it is computed again, its pass is over.
        """
        count = 0
        for block in self._blocks():
            block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
            block.gradient_checkpointing = parts_of(block) == self._parts[id(block)]
            count += block.gradient_checkpointing
        return count

    def _blocks(self) -> list[Any]:
        """The modules that transformers can compute again in the backward pass."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        return [module for module in self.lm.modules() if isinstance(module, GradientCheckpointingLayer)]

    def _check(self, *, vocab_size: int, seq_len: int) -> None:
        """Raises ValueError where the stream's tokens or rows do not fit the model."""
        config = self.lm.config
        if vocab_size > config.vocab_size:
            raise ValueError(
                f"model.name={self.name}: knows {config.vocab_size} tokens, the source has {vocab_size}; "
                "use source.tokenizer=model"
            )
        most = getattr(config, "max_position_embeddings", None)
        if most is not None and seq_len > most:
            raise ValueError(f"task.seq_len={seq_len}: model.name={self.name} has {most} positions")

    def get_input_embeddings(self) -> nn.Embedding:
        embedding: nn.Embedding = self.lm.get_input_embeddings()
        return embedding

    def get_output_embeddings(self) -> nn.Module:
        head: nn.Module = self.lm.get_output_embeddings()
        return head

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        segment_BT: Tensor | None = None,
        cache: Cache | None = None,
        prefix_BPD: Tensor | None = None,
    ) -> Tensor:
        """Return logits [B, T, V]; the arguments are those of `ttt.models.nano.Nano.forward`."""
        inputs: dict[str, Any] = {"use_cache": False}
        if prefix_BPD is None:
            inputs["input_ids"] = tokens_BT
        else:
            x_BTD = self.get_input_embeddings()(tokens_BT)
            inputs["inputs_embeds"] = torch.cat([prefix_BPD.to(x_BTD.dtype).expand(len(x_BTD), -1, -1), x_BTD], 1)
        if cache is not None or self._needs_mask(segment_BT):
            # Without a cache this one is dropped after the pass: it only places and masks tokens.
            opened = Cache() if cache is None else cache
            prefix = 0 if prefix_BPD is None else prefix_BPD.shape[-2]
            segment_BT = torch.zeros_like(tokens_BT) if segment_BT is None else segment_BT
            opened.open(segment_BT, window=self.window, prefix=prefix)
            # Nobody reads what padding gives; position 0 exists in every model.
            inputs["position_ids"] = opened.position_BQ.clamp(min=0) if prefix == 0 else opened.position_BQ
            inputs["attention_mask"] = self._masks(opened)
            inputs[self._cache_argument] = None if cache is None else Layers(cache)
        with _differentiable(cache):
            logits_BTV: Tensor = self.lm(**inputs, logits_to_keep=tokens_BT.shape[1]).logits
        return logits_BTV

    @contextmanager
    def logits_at(self, chosen_BT: Tensor) -> Iterator[None]:
        """While open, `forward` returns logits [N, V] of the chosen positions, row after row.

        What a family does to its logits afterwards (Gemma's cap) acts on each by itself.
        """

        # A hook on the head and not an argument: `logits_to_keep` takes the same places of all
        # rows, and the head may be wrapped by low-rank updates.
        def pick(head: nn.Module, hidden: tuple[Tensor]) -> tuple[Tensor]:
            return (hidden[0][chosen_BT],)

        handle = self.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            yield
        finally:
            handle.remove()

    def _needs_mask(self, segment_BT: Tensor | None) -> bool:
        """Is there padding, a second document, or a window that the model itself lacks?"""
        if self._is_narrowed:
            return True
        return segment_BT is not None and not bool((segment_BT == 0).all() or _whole(segment_BT))

    def _masks(self, cache: Cache) -> Tensor | Mapping[str, Tensor]:
        """Return the mask of every layer, or one for each kind of layer."""
        if self._attention == "flash_attention_2":
            raise ValueError(
                "model.attention=flash_attention_2: reads whole rows of one document only; use sdpa or eager"
            )
        masks = {kind: self._as_read(cache.mask(window)) for kind, window in self._windows.items()}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _as_read(self, seen_B1QA: Tensor) -> Tensor:
        """Return the mask as the attention wants it: eager attention adds it to its scores."""
        if self._attention != "eager":
            return seen_B1QA
        dtype = self.get_input_embeddings().weight.dtype
        return torch.zeros_like(seen_B1QA, dtype=dtype).masked_fill(~seen_B1QA, torch.finfo(dtype).min)


class Layers:
    """A cache of this project in the place of one of transformers': keys and values by layer."""

    is_compileable = False

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def update(
        self, k_BHTK: Tensor, v_BHTK: Tensor, layer_idx: int, cache_kwargs: Any = None, kwargs: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Return keys and values of all tokens that layer `layer_idx` may look at."""
        return self._cache.extend(str(layer_idx), k_BHTK, v_BHTK)


def windows_of(config: Any) -> dict[str, int | None]:
    """Return kind of layer -> its window, from the config of a model of transformers.

    Raises ValueError for a model with layers that are no attention.
    """
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if not kinds:
        return {FULL: window}
    odd = sorted(set(kinds) - {FULL, SLIDING})
    if odd:
        raise ValueError(f"model.name={config.name_or_path}: has layers of kind {odd[0]}; only attention is supported")
    return {kind: window if kind == SLIDING else None for kind in sorted(set(kinds))}


def cache_argument(lm: nn.Module) -> str:
    """Return what the decoder calls its cache: `cache`, or `past_key_values` in older releases."""
    import inspect

    return "cache" if "cache" in inspect.signature(lm.forward).parameters else "past_key_values"


def parts_of(block: nn.Module) -> frozenset[int]:
    """Return which modules a block consists of, and how many hooks they have."""
    return frozenset(
        hash((id(module), len(module._forward_hooks), len(module._forward_pre_hooks))) for module in block.modules()
    )


def _narrower(one: int | None, other: int | None) -> int | None:
    limits = [window for window in (one, other) if window is not None]
    return min(limits, default=None)


def _widest(windows: Any) -> int | None:
    """Return the largest window, None if any layer sees everything."""
    limits = list(windows)
    return None if None in limits else max(limits)


def _whole(segment_BT: Tensor) -> Tensor:
    """Does every row hold one document from its first token to its last?"""
    return ((segment_BT == segment_BT[:, :1]) & (segment_BT >= 0)).all()


def _differentiable(cache: Cache | None) -> AbstractContextManager[Any]:
    """Learning through a cached pass may need second derivatives, which fast kernels lack."""
    return sdpa_kernel(SDPBackend.MATH) if cache is not None and torch.is_grad_enabled() else nullcontext()
