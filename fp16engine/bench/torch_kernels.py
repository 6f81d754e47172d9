"""PyTorch's operations against ours, for `bench kernels`. Importable only where torch is.

Feature maps are handed over as (N, C, H, W) views of the same NHWC memory (channels_last), as PyTorch runs
them best. A backward pass is timed alone, from a graph that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .kernel_cases import Kernel, Setting

VERSION = torch.__version__
_DTYPES = {"float16": torch.float16, "float32": torch.float32}


def missing(device: str) -> str | None:
    """Return why torch cannot be measured on `device`, None if it can."""
    if device.startswith("cuda"):
        return None if torch.cuda.is_available() else "torch is here, but it finds no GPU"
    return None if device == "cpu" else f"torch has no device like {device!r}"


class Peers:
    """Makes the calls; `device` is ours and torch's name of the same device."""

    def __init__(self, device: str) -> None:
        self._device = device

    def prepare(self, kernel: Kernel, given: dict[str, Any], setting: Setting) -> Callable[[], Any] | None:
        """Return torch's call for `kernel` on the arrays `given`, None if it has none that does the same."""
        builder = _BUILDERS.get(kernel.name) or _BUILDERS.get(kernel.family)
        if builder is None:
            return None
        tensors = {
            name: [self._tensor(a) for a in value] if isinstance(value, list) else self._tensor(value)
            for name, value in given.items()
        }
        call: Callable[[], Any] = builder(tensors, kernel, setting)
        return call

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Run torch's calls on our stream, whose events time them; on a processor there is none."""
        if stream is None:
            return nullcontext()
        return torch.cuda.stream(torch.cuda.ExternalStream(stream.ptr))

    def _tensor(self, a: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(a, order="C")).to(self._device)
        return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def _gradient(
    function: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor], dy: torch.Tensor
) -> Callable[[], Any]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    y = function(*leaves)
    return lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)


def _batch_norm(relu: bool, training: bool = True, residual: bool = False, of_sum: bool = False) -> Any:
    """residual: added before the ReLU; of_sum: to the input, and backward a gradient that waits for it, whose
    sum with the norm's is then summed over all but the channels."""

    def builder(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any]:
        def forward(
            x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, added: torch.Tensor | None = None
        ) -> torch.Tensor:
            running = [torch.zeros_like(gamma), torch.ones_like(gamma)]
            if "running_mean" in t:
                running = [t["running_mean"], t["running_var"]]
            if added is not None and of_sum:
                x = x + added
            y = F.batch_norm(x, *running, gamma, beta, training, 0.01, 1e-3)
            if added is not None and residual:
                y += added
            return F.relu(y, inplace=True) if relu else y

        inputs = (t["x"], t["gamma"], t["beta"])
        if "dy" not in t:
            return lambda: forward(*inputs, t.get("residual", t.get("addend")))
        if residual:
            return _gradient(forward, (*inputs, t["y"]), t["dy"])
        gradients = _gradient(forward, inputs, t["dy"])
        if not of_sum:
            return gradients

        def joined() -> Any:
            dx, dgamma, dbeta = gradients()
            dx = dx + t["pending_grad"]
            return dx, dgamma, dbeta, dx.sum((0, 2, 3))

        return joined

    return builder


def _batch_norm_of_cat(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any]:
    def forward(s: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        running = [t["running_mean"], t["running_var"]] if "running_mean" in t else [None, None]
        return F.batch_norm(s, *running, gamma, beta, True, 0.01, 1e-3)

    if "dy" not in t:
        return lambda: forward(torch.cat((t["x"], t["joined"]), 1), t["gamma"], t["beta"])
    gradients = _gradient(forward, (t["x"], t["gamma"], t["beta"]), t["dy"])

    def parted() -> Any:
        ds, dgamma, dbeta = gradients()
        return [part.contiguous() for part in (ds + t["pending_grad"]).chunk(2, 1)], dgamma, dbeta

    return parted


def _relu_bias(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any]:
    def joined() -> Any:
        dx = torch.ops.aten.threshold_backward(t["dy"], t["y"], 0)
        return dx, dx.sum((0, 2, 3))

    return joined


def _layer_norm(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any]:
    width = t["x"].shape[-1:]
    if "dy" not in t:
        return lambda: F.layer_norm(t["x"], width, t["gamma"], t["beta"], 1e-6)
    beta = torch.zeros_like(t["gamma"])
    return _gradient(lambda x, g, b: F.layer_norm(x, width, g, b, 1e-6), (t["x"], t["gamma"], beta), t["dy"])


def _gradient_of(function: Callable[[torch.Tensor], torch.Tensor], name: str) -> Any:
    return lambda t, kernel, setting: _gradient(function, (t[name],), t["dy"])


def _pool(function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def builder(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any]:
        n, h, w, c = kernel.operands["dx"].shape
        x = torch.arange(h * w, dtype=t["dy"].dtype, device=t["dy"].device).reshape(1, h, w, 1)
        x = x.expand(n, h, w, c).contiguous().permute(0, 3, 1, 2)
        return _gradient(function, (x,), t["dy"])

    return builder


def _optimizer(name: str, **settings: Any) -> Any:
    def builder(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any] | None:
        if setting.precision.update != "nearest":
            return None  # torch's masters are its autocast's, and their casts are other kernels
        params = [p.clone().requires_grad_() for p in t["params"]]
        for p, grad in zip(params, t["grads"], strict=True):
            p.grad = grad
        fused = t["params"][0].is_cuda
        made = getattr(torch.optim, name)(params, lr=1e-6, fused=fused, **settings)
        return lambda: made.step()

    return builder


def _rmsprop(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any]:
    params = [p.clone().requires_grad_() for p in t["params"]]
    for p, grad in zip(params, t["grads"], strict=True):
        p.grad = grad
    made = torch.optim.RMSprop(params, lr=1e-6, alpha=0.9, foreach=True)
    return lambda: made.step()


def _attention(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any]:
    # Our 4-d arrays are (B, H, S, D) here, not feature maps: undo the view as (N, C, H, W).
    q, k, v = (t[name].permute(0, 2, 3, 1) for name in "qkv")
    if "dy" in t:
        return _gradient(F.scaled_dot_product_attention, (q, k, v), t["dy"].permute(0, 2, 3, 1))
    return lambda: F.scaled_dot_product_attention(q, k, v)


def _convolution(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any]:
    x, w = t["x"], t["w"]
    groups = x.shape[1] // w.shape[1]
    if "b" in t:
        return lambda: F.conv2d(x, w, t["b"], padding=1, groups=groups)
    needs = [kernel.outputs == ("dx",), kernel.outputs == ("dw",), False]
    return lambda: torch.ops.aten.convolution_backward(
        t["dy"], x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], groups, needs
    )


def _product(t: Any, kernel: Kernel, setting: Setting) -> Callable[[], Any]:
    if "b" in t:
        return lambda: F.linear(t["x"], t["w"], t["b"])
    if "w" in t:
        return lambda: t["dy"] @ t["w"]
    return lambda: t["dy"].T @ t["x"]


def _max_pool(x: torch.Tensor) -> Any:
    return F.max_pool2d(x, 2, return_indices=True)


_BUILDERS: dict[str, Any] = {
    "batch_norm_forward": _batch_norm(False),
    "batch_norm_forward with ReLU": _batch_norm(True),
    "batch_norm_forward with residual and ReLU": _batch_norm(True, residual=True),
    "batch_norm_forward of a sum with ReLU": _batch_norm(True, of_sum=True),
    "batch_norm_backward with residual and ReLU": _batch_norm(True, residual=True),
    "batch_norm_backward of a sum with ReLU": _batch_norm(True, of_sum=True),
    "batch_norm_backward": _batch_norm(False),
    "batch_norm_backward with ReLU": _batch_norm(True),
    "batch_norm_forward of channels side by side": _batch_norm_of_cat,
    "batch_norm_backward of channels side by side": _batch_norm_of_cat,
    "batch_norm_inference": _batch_norm(False, training=False),
    "layer norm": _layer_norm,
    "softmax": lambda t, k, s: lambda: torch.softmax(t["x"], -1),
    "softmax_backward": lambda t, k, s: (
        lambda: torch.ops.aten._softmax_backward_data(t["dy"], t["y"], -1, t["y"].dtype)
    ),
    "cross_entropy_forward": lambda t, k, s: lambda: F.cross_entropy(t["logits"], t["labels"]),
    "cross_entropy_backward": lambda t, k, s: _gradient(
        lambda z: F.cross_entropy(z, t["labels"]), (t["logits"],), t["dy"]
    ),
    "max_pool_forward 2x2": lambda t, k, s: lambda: _max_pool(t["x"]),
    "max_pool_backward 2x2": _pool(lambda x: F.max_pool2d(x, 2)),
    "avg_pool_forward 2x2": lambda t, k, s: lambda: F.avg_pool2d(t["x"], 2),
    "avg_pool_backward 2x2": _pool(lambda x: F.avg_pool2d(x, 2)),
    "global average": lambda t, k, s: lambda: t["x"].mean((2, 3)),
    "relu": lambda t, k, s: lambda: F.relu(t["x"]),
    "gelu": lambda t, k, s: lambda: F.gelu(t["x"]),
    "tanh": lambda t, k, s: lambda: torch.tanh(t["x"]),
    "relu_backward": lambda t, k, s: lambda: torch.ops.aten.threshold_backward(t["dy"], t["y"], 0),
    "relu_backward with another gradient": lambda t, k, s: (
        lambda: torch.ops.aten.threshold_backward(t["dy"], t["y"], 0) + t["pending_grad"]
    ),
    "relu_backward with bias sums": _relu_bias,
    "gelu_backward": lambda t, k, s: lambda: torch.ops.aten.gelu_backward(t["dy"], t["x"]),
    "add": lambda t, k, s: lambda: t["a"] + t["b"],
    "add bias": lambda t, k, s: lambda: t["a"] + t["b"].reshape(-1, 1, 1),
    "dropout": lambda t, k, s: lambda: F.dropout(t["x"], 0.1, training=True),
    "cast float16 to float32": lambda t, k, s: lambda: t["x"].float(),
    "cast float32 to float16": lambda t, k, s: lambda: t["x"].half(),
    "sum over all but channels": lambda t, k, s: lambda: t["x"].sum((0, 2, 3)),
    "sum of everything": lambda t, k, s: lambda: t["x"].sum(),
    "max over channels": lambda t, k, s: lambda: t["x"].amax(1),
    "all_finite": lambda t, k, s: lambda: bool(torch.isfinite(t["x"]).all()),
    "gather a batch": lambda t, k, s: lambda: t["data"].index_select(0, t["index"]),
    "attention": _attention,
    "SGD with momentum": _optimizer("SGD", momentum=0.9),
    "Adam": _optimizer("Adam"),
    "RMSprop": _rmsprop,
    "depthwise convolution": _convolution,
    "convolution": _convolution,
    "matrix product": _product,
}
