"""What a backend can do in addition to the operations that every one has."""

from __future__ import annotations

from typing import NamedTuple


class Capabilities(NamedTuple):
    """The optional features of a backend, all in one record: whoever wants to use one asks here first.

    `captured_steps`: it records a training step and replays it (`traced`, `recorded`). `tf32`: it rounds
    float32 factors of dot products to TF32. `bfloat16`: its arrays may be of that dtype. `winograd`: it has
    Winograd's convolution. `threads`: `set_num_threads` is there. `multiply_adds`: `multiply_adds(steps)`
    computes on registers alone, as fast as the device can. `info`: `info()` says what it runs on.
    `implementations`: `implementations()` lists the convolutions that ran. `attention_by_heads`: attention
    reads heads that lie side by side as they are. `relu_bias_sums`: a ReLU's gradient costs less with the
    sums for a bias than those cost the convolution. `relu_grad_sums`: and less with another gradient of the
    same array added than the sum costs apart. `stream`: work is queued on `stream`, and arrays leave
    through `exporting()`.

    >>> Capabilities(threads=True).captured_steps
    False
    """

    captured_steps: bool = False
    tf32: bool = False
    bfloat16: bool = False
    winograd: bool = False
    threads: bool = False
    multiply_adds: bool = False
    info: bool = False
    implementations: bool = False
    stream: bool = False
    attention_by_heads: bool = False
    relu_bias_sums: bool = False
    relu_grad_sums: bool = False
