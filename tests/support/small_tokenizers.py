"""Small real tokenizers of pretrained models' two styles, as the text of their tokenizer.json."""

from __future__ import annotations

import functools
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

END = "<|endoftext|>"
# The pattern of GPT-4 and Llama 3: line breaks go with the punctuation before them.
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEXT = "def f(x):\n    return x + 1\n\n\nThe café is open; the end.\nÇa va très bien, à bientôt — 12 345 €.\n" * 20


@functools.cache
def byte_level(words: str | None = None, *, end: str = END) -> str:
    """A byte-level BPE, with GPT-2's words or those of a pattern, that puts `end` before a text."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=words is None)
    tokenizer = Tokenizer(models.BPE())
    if words is not None:
        split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(words), "isolated"), split])
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=[end], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{end} $A", special_tokens=[(end, 0)])
    tokenizer.add_tokens([AddedToken("\n\n\n", normalized=False)])
    tokenizer.enable_truncation(8)
    return str(tokenizer.to_str())


@functools.cache
def llama() -> str:
    """A BPE as Llama 2 has it: the whole text is one word, ▁ before it, rare characters as bytes."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    learned.train_from_iterator(TEXT.split("\n"), trainers.BpeTrainer(vocab_size=200, show_progress=False))
    content = json.loads(learned.to_str())["model"]
    names = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), *content["vocab"]]
    vocab = {name: number for number, name in enumerate(names)}
    merges = [tuple(pair) for pair in content["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    return _sentencepiece(tokenizer, prefix="normalizer")


@functools.cache
def unigram() -> str:
    """A Unigram model over words that begin with ▁, rare characters as bytes."""
    learned = Tokenizer(models.Unigram())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    learned.train_from_iterator(TEXT.split("\n"), trainer)
    pieces = [("<unk>", 0.0), ("<s>", 0.0), *((f"<0x{byte:02X}>", -90.0) for byte in range(256))]
    pieces += [(token, score) for token, score in json.loads(learned.to_str())["model"]["vocab"] if token != "<unk>"]
    return _sentencepiece(Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True)), prefix="metaspace")


def _sentencepiece(tokenizer: Tokenizer, *, prefix: str) -> str:
    if prefix == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<unk>", "<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return str(tokenizer.to_str())


def lower_case() -> str:
    """A tokenizer that does not keep the text."""
    tokenizer = Tokenizer.from_str(byte_level())
    tokenizer.normalizer = normalizers.Lowercase()
    return str(tokenizer.to_str())


def large(size: int) -> str:
    """A byte-level tokenizer of `size` tokens without a merge, the bytes as the last of them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*(f"unused {i}" for i in range(size - len(alphabet))), *alphabet]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    return str(tokenizer.to_str())
