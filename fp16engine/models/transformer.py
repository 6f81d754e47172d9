"""Encoder-decoder Transformers (Vaswani et al., 1706.03762) for translation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backend as backends
from .. import functional as F
from .. import random
from ..floats import rounded
from ..nn import Dropout, Embedding, LayerNorm, Linear, Module, MultiHeadAttention, ReLU, Sequential, init
from ..tensor import Tensor
from ..validate import choice, flag, must_be, number

EPS = 1e-5  # a normal number in binary16 up to rounding; rows here have a variance of about 1

# dim, heads, hidden, layers of encoder and of decoder, dropout
_SIZES: dict[str, tuple[int, int, int, int, float]] = {
    "transformer-base": (512, 8, 2048, 6, 0.1),
    "transformer-small": (256, 4, 512, 3, 0.1),
    "transformer-tiny": (64, 4, 128, 2, 0.1),
}


class Attended(Module):
    """A residual branch: norm, attention, dropout; the norm comes first or, with `norm="post"`, last."""

    def __init__(self, dim: int, heads: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.norm_first = norm == "pre"
        self.norm = LayerNorm(dim, EPS)
        self.attention = MultiHeadAttention(dim, heads)
        self.dropout = Dropout(dropout)

    def before(self, x: Tensor) -> Tensor:
        """What the attention reads of x."""
        return self.norm(x) if self.norm_first else x

    def after(self, x: Tensor, read: Tensor) -> Tensor:
        """x and what the attention found."""
        y = x + self.dropout(read)
        return y if self.norm_first else self.norm(y)


class FeedForward(Module):
    """The other residual branch: norm, two layers with a ReLU between, dropout."""

    def __init__(self, dim: int, hidden: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.norm_first = norm == "pre"
        self.norm = LayerNorm(dim, EPS)
        self.mlp = Sequential(Linear(dim, hidden), ReLU(), Linear(hidden, dim))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            return x + self.dropout(self.mlp(self.norm(x)))
        return self.norm(x + self.dropout(self.mlp(x)))


class EncoderLayer(Module):
    """x (B, S, dim) reads itself up to each sentence's length, then a FeedForward."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.self_attention = Attended(dim, heads, dropout, norm)
        self.feed_forward = FeedForward(dim, hidden, dropout, norm)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        branch = self.self_attention
        x = branch.after(x, branch.attention(branch.before(x), key_lengths=lengths))
        return self.feed_forward(x)


class DecoderLayer(Module):
    """x (B, T, dim) reads itself up to each position, then the encoder's memory, then a FeedForward."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.self_attention = Attended(dim, heads, dropout, norm)
        self.cross_attention = Attended(dim, heads, dropout, norm)
        self.feed_forward = FeedForward(dim, hidden, dropout, norm)

    def forward(self, x: Tensor, memory: Tensor, lengths: Tensor) -> Tensor:
        branch = self.self_attention
        x = branch.after(x, branch.attention(branch.before(x), causal=True))
        branch = self.cross_attention
        x = branch.after(x, branch.attention(branch.before(x), memory, key_lengths=lengths))
        return self.feed_forward(x)

    def step(self, x: Tensor, cache: LayerCache, lengths: Tensor) -> Tensor:
        """One more position, x (B, 1, dim): the last row of `forward`, from the keys and values kept."""
        branch = self.self_attention
        read = branch.before(x)
        cache.append(*branch.attention.project(read))
        assert cache.keys is not None and cache.values is not None
        x = branch.after(x, branch.attention.attend(read, cache.keys, cache.values))
        branch = self.cross_attention
        found = branch.attention.attend(branch.before(x), *cache.memory, key_lengths=lengths)
        return self.feed_forward(branch.after(x, found))


@dataclass
class LayerCache:
    """Keys and values (B, heads, T, head_dim) of one decoder layer: of the memory, and of what was said."""

    memory: tuple[Tensor, Tensor]
    keys: Tensor | None = None
    values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Take the next position in."""
        if self.keys is not None and self.values is not None:
            keys, values = F.cat([self.keys, keys], axis=2), F.cat([self.values, values], axis=2)
        self.keys, self.values = keys, values


class DecoderState:
    """What a decoder keeps between steps for B hypotheses."""

    def __init__(self, layers: list[LayerCache], lengths: Tensor) -> None:
        self.layers, self.lengths, self.position = layers, lengths, 0

    def select(self, index: np.ndarray) -> None:
        """Continue with the hypotheses of an int64 index (B',), in its order; one may come several times."""
        for layer in self.layers:
            layer.memory = (_rows(layer.memory[0], index), _rows(layer.memory[1], index))
            if layer.keys is not None and layer.values is not None:
                layer.keys, layer.values = _rows(layer.keys, index), _rows(layer.values, index)
        self.lengths = _rows(self.lengths, index)


class Projection(Module):
    """x (..., dim) to logits (..., vocabulary) by the rows of an embedding, which it shares."""

    dot_product = True  # the last layer with weights, for precisions that treat that one otherwise

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self.weight = embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Transformer(Module):
    """An encoder and a decoder that translate tokens, with one head per token of the vocabulary.

    Args:
        vocabulary: number of tokens.
        dim: width of a token's vector, even.
        heads: heads of each attention, a divisor of dim.
        hidden: width of the inner layer of each feed-forward block.
        layers: blocks of the encoder, and of the decoder.
        dropout: probability in [0, 1) on embeddings and branches; none inside attention, whose probabilities
            one kernel makes and uses.
        norm: "pre" normalises before every branch, which trains without a long warm-up and leaves the
            residual sum, the largest numbers of the network, free of a rescaling whose gradient could
            overflow binary16; "post" normalises after it, as the first paper did.
        shared_embeddings: source, target and output have one table.

    Call:
        source: tokens (B, S), int64.
        source_lengths: (B,), int64: how many tokens of each source are no padding.
        target: tokens (B, T), int64; the result is logits (B, T, vocabulary), dtype of the weights, of what
            follows each of them.

    Positions are added as sines and cosines; embeddings are scaled by sqrt(dim). Every operation rounds as
    its function in `functional` says.

    Raises:
        ValueError: a size is no integer >= 1, heads do not divide dim, dim is odd, norm is unknown; at the
            call, a shape does not fit.

    Source:
        Vaswani et al., 2017, arXiv 1706.03762; Xiong et al., 2020, arXiv 2002.04745 (norm="pre").

    >>> import fp16engine as fe
    >>> model = fe.models.transformer.Transformer(11, 8, 2, 16, 1).to("reference").eval()
    >>> ids, lengths = (fe.tensor(v, device="reference") for v in ([[3, 4, 2]], [3]))
    >>> model(ids, lengths, ids).shape
    (1, 3, 11)
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        heads: int,
        hidden: int,
        layers: int,
        dropout: float = 0.1,
        norm: str = "pre",
        shared_embeddings: bool = True,
    ) -> None:
        super().__init__()
        init.positive(
            "Transformer", vocabulary=vocabulary, dim=dim, heads=heads, hidden=hidden, layers=layers
        )
        if dim % 2:
            raise ValueError(must_be("Transformer: dim", "an even number (sines and cosines)", dim))
        choice("Transformer: norm", norm, ("pre", "post"))
        self.dim, self.norm_first = dim, norm == "pre"
        limit = math.sqrt(3.0 / dim)  # a variance of 1 / dim, so that scaled embeddings have 1

        def table() -> Embedding:
            embedding = Embedding(vocabulary, dim)
            embedding.weight = init.uniform((vocabulary, dim), limit)
            return embedding

        self.source_embedding = table()
        self.target_embedding = self.source_embedding if shared_embeddings else table()
        self.dropout = Dropout(dropout)
        sizes = (dim, heads, hidden, dropout, norm)
        self.encoder = [EncoderLayer(*sizes) for _ in range(layers)]
        self.decoder = [DecoderLayer(*sizes) for _ in range(layers)]
        if self.norm_first:
            self.encoder_norm, self.decoder_norm = LayerNorm(dim, EPS), LayerNorm(dim, EPS)
        self.output = Projection(self.target_embedding)

    def forward(self, source: Tensor, source_lengths: Tensor, target: Tensor) -> Tensor:
        return self.decode(target, self.encode(source, source_lengths), source_lengths)

    def encode(self, source: Tensor, source_lengths: Tensor) -> Tensor:
        """Return the encoder's memory of source tokens.

        Args:
            source: tokens (B, S), int64.
            source_lengths: (B,), int64: how many tokens of each source are no padding.

        Returns:
            (B, S, dim), dtype of the weights.

        Raises:
            ValueError: source has not two axes, or a token or length is out of range.

        >>> import fp16engine as fe
        >>> model = fe.models.transformer.Transformer(11, 8, 2, 16, 1).to("reference").eval()
        >>> ids, lengths = (fe.tensor(v, device="reference") for v in ([[3, 4, 2]], [3]))
        >>> model.encode(ids, lengths).shape
        (1, 3, 8)
        """
        x = self._embedded(self.source_embedding, source, 0)
        for layer in self.encoder:
            x = layer(x, source_lengths)
        return self.encoder_norm(x) if self.norm_first else x

    def decode(self, target: Tensor, memory: Tensor, source_lengths: Tensor) -> Tensor:
        """Return the logits of what follows each of the target tokens.

        Args:
            target: tokens (B, T), int64.
            memory: (B, S, dim), float16, bfloat16 or float32, from `encode`.
            source_lengths: (B,), int64, as in `encode`.

        Returns:
            (B, T, vocabulary), dtype of memory.

        Raises:
            ValueError: target has not two axes, or a token is out of range.

        >>> import fp16engine as fe
        >>> model = fe.models.transformer.Transformer(11, 8, 2, 16, 1).to("reference").eval()
        >>> ids, lengths = (fe.tensor(v, device="reference") for v in ([[3, 4, 2]], [3]))
        >>> model.decode(ids, model.encode(ids, lengths), lengths).shape
        (1, 3, 11)
        """
        x = self._embedded(self.target_embedding, target, 0)
        for layer in self.decoder:
            x = layer(x, memory, source_lengths)
        return self._logits(x)

    def start(self, memory: Tensor, source_lengths: Tensor) -> DecoderState:
        """Return the state of a decoder that has said nothing yet, for `step`.

        Args:
            memory: (B, S, dim), float16, bfloat16 or float32, from `encode`.
            source_lengths: (B,), int64, as in `encode`.

        Raises:
            ValueError: memory has not three axes.

        >>> import fp16engine as fe
        >>> model = fe.models.transformer.Transformer(11, 8, 2, 16, 1).to("reference").eval()
        >>> ids, lengths = (fe.tensor(v, device="reference") for v in ([[3, 4, 2]], [3]))
        >>> model.start(model.encode(ids, lengths), lengths).position
        0
        """
        layers = [LayerCache(layer.cross_attention.attention.project(memory)) for layer in self.decoder]
        return DecoderState(layers, source_lengths)

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Take the next tokens in and return the logits of what follows.

        Args:
            tokens: (B,), int64.
            state: from `start`; it keeps keys and values, and moves on by a position.

        Returns:
            (B, vocabulary), dtype of the memory that the state began with.

        Raises:
            ValueError: a token is out of range, or their number is not that of the state.

        >>> import fp16engine as fe
        >>> model = fe.models.transformer.Transformer(11, 8, 2, 16, 1).to("reference").eval()
        >>> ids, lengths = (fe.tensor(v, device="reference") for v in ([[3, 4, 2]], [3]))
        >>> state = model.start(model.encode(ids, lengths), lengths)
        >>> model.step(fe.tensor([1], device="reference"), state).shape, state.position
        ((1, 11), 1)
        """
        x = self._embedded(self.target_embedding, F.reshape(tokens, (tokens.shape[0], 1)), state.position)
        for layer, cache in zip(self.decoder, state.layers, strict=True):
            x = layer.step(x, cache, state.lengths)
        state.position += 1
        y = self._logits(x)
        return F.reshape(y, (y.shape[0], y.shape[2]))

    def _embedded(self, embedding: Embedding, ids: Tensor, first: int) -> Tensor:
        if ids.ndim != 2:
            raise ValueError(f"Transformer: tokens must be of shape (B, S), got {ids.shape}")
        x = embedding(ids) * math.sqrt(self.dim)
        table = rounded(positions(first + ids.shape[1], self.dim)[first:], x.dtype)
        return self.dropout(x + Tensor(backends.get(x.device).from_numpy(table), x.device))

    def _logits(self, x: Tensor) -> Tensor:
        y: Tensor = self.output(self.decoder_norm(x) if self.norm_first else x)
        return y


def positions(count: int, dim: int) -> np.ndarray:
    """Return the sinusoids of `count` positions, float64 (count, dim): sines, then cosines of one angle."""
    angles = np.arange(count)[:, None] * np.exp(np.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _rows(x: Tensor, index: np.ndarray) -> Tensor:
    backend = backends.get(x.device)
    return Tensor(backend.gather(x.data, backend.from_numpy(index)), x.device)


def names() -> list[str]:
    """Return the names `create` knows: base is the paper's, small trains on a CPU, tiny is for tests.

    >>> import fp16engine as fe
    >>> fe.models.transformer.names()
    ['transformer-base', 'transformer-small', 'transformer-tiny']
    """
    return list(_SIZES)


def create(
    name: str,
    vocabulary: int,
    norm: str = "pre",
    shared_embeddings: bool = True,
    dropout: float | None = None,
    seed: int = 0,
) -> Transformer:
    """Return a new Transformer in float32 on "cpu"; equal arguments give equal initial weights, bit for bit.

    Args:
        name: one of `names()`.
        vocabulary: number of tokens, >= 1.
        norm: "pre" or "post", see `Transformer`.
        shared_embeddings: source, target and output have one table.
        dropout: probability in [0, 1); None means that of the size.
        seed: of the initial weights. The global random state is not touched.

    The arguments are kept as `model.config`.

    Raises:
        ValueError: the name is unknown, or an argument is out of range.

    >>> import fp16engine as fe
    >>> fe.models.transformer.create("transformer-tiny", 300).num_parameters()
    186880
    """
    choice("model", name, _SIZES)
    dim, heads, hidden, layers, usual = _SIZES[name]
    config: dict[str, Any] = {
        "name": name,
        "vocabulary": vocabulary,
        "norm": norm,
        "shared_embeddings": flag("shared_embeddings", shared_embeddings),
        "dropout": usual if dropout is None else number("dropout", dropout, minimum=0, below=1),
        "seed": random.checked_seed(seed),
    }
    with random.fork(seed):
        model = Transformer(
            vocabulary, dim, heads, hidden, layers, config["dropout"], norm, config["shared_embeddings"]
        )
    model.config = config
    return model
