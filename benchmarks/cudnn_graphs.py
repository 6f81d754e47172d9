"""Carries out a cuDNN graph as it is described to cuDNN: by its extents, strides and paddings, in NumPy.

So a graph is held to the reference without a GPU: a wrong stride or padding gives other numbers. The graphs
are those that the CUDA module builds, as cudnn-frontend writes them down; they are renewed, after a change of
the headers that build them, in the environment of check_cudnn_plans.py with

    PYTHONPATH=. python benchmarks/cudnn_graphs.py

which writes benchmarks/results/cudnn_graphs.json for the tests.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "benchmarks" / "results" / "cudnn_graphs.json"
SOURCES = ("csrc/cuda/conv_shape.h", "csrc/cuda/cudnn_graph.h")
PASSES = ("forward", "forward with bias", "data gradient", "weight gradient")
X, W, Y, BIAS = (
    1,
    2,
    3,
    4,
)  # uids of csrc/cuda/cudnn_graph.h; a gradient has that of what it is the gradient of

Tensors = dict[int, np.ndarray]  # by uid, as they lie in memory, flat


def execute(graph: dict[str, Any], given: Tensors) -> Tensors:
    """Return every stored tensor that the graph computes, flat, in float64.

    graph: {"nodes", "tensors"}; given: the inputs by their uid, as many elements as their extents have.

    Raises:
        ValueError: an input has another size, or a node computes an array of other extents than its output's.
    """
    described = {tensor["uid"]: tensor for tensor in graph["tensors"]}
    values = {uid: _laid_out(described[uid], flat.astype(np.float64)) for uid, flat in given.items()}
    stored: Tensors = {}
    for node in graph["nodes"]:
        inputs = {role: values[uid] for role, uid in node["inputs"].items()}
        for uid in node["outputs"].values():
            tensor = described[uid]
            result = _NODES[node["tag"]](node, inputs, tuple(tensor["dim"]))
            if result.shape != tuple(tensor["dim"]):
                raise ValueError(f"{node['tag']}: extents must be {tensor['dim']}, got {list(result.shape)}")
            values[uid] = result
            if not tensor["is_virtual"]:
                stored[uid] = np.full(result.size, np.nan)
                _laid_out(tensor, stored[uid])[...] = result
    return stored


def _laid_out(tensor: dict[str, Any], flat: np.ndarray) -> np.ndarray:
    """View flat memory by the tensor's extents and strides."""
    if flat.size != np.prod(tensor["dim"]):
        raise ValueError(
            f"tensor {tensor['uid']} must have {np.prod(tensor['dim'])} elements, got {flat.size}"
        )
    last = sum((n - 1) * stride for n, stride in zip(tensor["dim"], tensor["stride"], strict=True))
    if last >= flat.size:
        raise ValueError(f"tensor {tensor['uid']} must end at element {flat.size - 1}, got one at {last}")
    strides = [stride * flat.itemsize for stride in tensor["stride"]]
    return np.lib.stride_tricks.as_strided(flat, tensor["dim"], strides)


def _padded(node: dict[str, Any], x: np.ndarray) -> np.ndarray:
    pads = zip(node["pre_padding"], node["post_padding"], strict=True)
    return np.pad(x, [(0, 0), (0, 0), *pads])


def _taps(node: dict[str, Any], w: tuple[int, ...], out: tuple[int, ...]) -> list[tuple[int, int, Any]]:
    """Per tap r, s of a kernel (K, C / groups, R, S), the pixels of the padded image that it meets."""
    (sh, sw), (dh, dw) = node["stride"], node["dilation"]
    return [
        (
            r,
            s,
            (
                ...,
                slice(r * dh, r * dh + sh * (out[2] - 1) + 1, sh),
                slice(s * dw, s * dw + sw * (out[3] - 1) + 1, sw),
            ),
        )
        for r in range(w[2])
        for s in range(w[3])
    ]


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, C, H, W) -> (N, groups, C / groups, H, W)"""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _forward(node: dict[str, Any], given: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    x, w = _padded(node, given["X"]), given["W"]
    groups = x.shape[1] // w.shape[1]
    kernel = w.reshape(groups, -1, *w.shape[1:])
    reach = [d * (n - 1) + 1 for d, n in zip(node["dilation"], w.shape[2:], strict=True)]
    height, width = ((x.shape[2 + i] - reach[i]) // node["stride"][i] + 1 for i in (0, 1))
    y = np.zeros((x.shape[0], groups, kernel.shape[1], height, width))
    for r, s, pixels in _taps(node, w.shape, (0, 0, height, width)):
        y += np.einsum("ngchw,gkc->ngkhw", _grouped(x[pixels], groups), kernel[..., r, s])
    return y.reshape(x.shape[0], w.shape[0], height, width)


def _data_gradient(node: dict[str, Any], given: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    dy, w = given["DY"], given["W"]
    groups = shape[1] // w.shape[1]
    kernel = w.reshape(groups, -1, *w.shape[1:])
    dx = _padded(node, np.zeros(shape))
    for r, s, pixels in _taps(node, w.shape, dy.shape):
        part = np.einsum("ngkhw,gkc->ngchw", _grouped(dy, groups), kernel[..., r, s])
        dx[pixels] += part.reshape(dx[pixels].shape)
    top, left = node["pre_padding"]
    return dx[:, :, top : top + shape[2], left : left + shape[3]]


def _weight_gradient(
    node: dict[str, Any], given: dict[str, np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    dy, x = given["DY"], _padded(node, given["X"])
    groups = x.shape[1] // shape[1]
    dw = np.zeros(shape)
    for r, s, pixels in _taps(node, shape, dy.shape):
        part = np.einsum("ngkhw,ngchw->gkc", _grouped(dy, groups), _grouped(x[pixels], groups))
        dw[..., r, s] = part.reshape(shape[:2])
    return dw


def _pointwise(node: dict[str, Any], given: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    if node["mode"] != "ADD":
        raise ValueError(f"mode must be ADD, got {node['mode']}")
    return given["IN_0"] + given["IN_1"]


_NODES: dict[str, Callable[[dict[str, Any], dict[str, np.ndarray], tuple[int, ...]], np.ndarray]] = {
    "CONV_FPROP": _forward,
    "CONV_DGRAD": _data_gradient,
    "CONV_WGRAD": _weight_gradient,
    "POINTWISE": _pointwise,
}


# --- the graphs --------------------------------------------------------------------------------------------


def fingerprint() -> str:
    """Return what tells whether the headers that build the graphs have changed."""
    return hashlib.sha256(b"".join((ROOT / source).read_bytes() for source in SOURCES)).hexdigest()


def request(case: tuple[Any, ...], which: str) -> dict[str, Any]:
    """Return what is asked of csrc/testing/cudnn_plans.cpp. case: as CONV of python_tests/op_cases.py."""
    (n, h, w, c), (k, r, s), (sh, sw), pads, groups = case
    out = ((h + pads[0] + pads[1] - r) // sh + 1, (w + pads[2] + pads[3] - s) // sw + 1)
    return {
        "graph": "convolution", "describe": True, "shape": [n, h, w, c, k, r, s, *out, sh, sw, *pads, groups],
        "pass": which.removesuffix(" with bias"), "bias": which.endswith("bias"),
        "dtype": "float16", "compute": "float32", "sm": 90,
    }  # fmt: skip


def main() -> int:
    """Ask for every graph and write them down."""
    sys.path.insert(0, str(ROOT / "python_tests"))
    import check_cudnn_plans as plans
    from op_cases import CONV

    asked = {
        (label, which): request(case, which) for label, case in CONV.items() if case[0][0] for which in PASSES
    }
    with tempfile.TemporaryDirectory() as folder:
        program, driver = plans.build(Path(folder))
        answers = plans.ask([str(program), *plans.libraries(driver)], list(asked.values()))
        frontend = plans.version(next(answers)["frontend"], 10000)
        graphs: dict[str, dict[str, Any]] = {}
        for (label, which), answer in zip(asked, answers, strict=True):
            if "nodes" not in answer:
                raise plans.CannotRun(f"{label}, {which}: {answer['reason']}")
            graphs.setdefault(label, {})[which] = {
                "nodes": [{key: node[key] for key in _NODE_KEYS if key in node} for node in answer["nodes"]],
                "tensors": [{key: tensor[key] for key in _TENSOR_KEYS} for tensor in answer["tensors"]],
            }
    found = {"cudnn_frontend": frontend, "sources": fingerprint(), "graphs": graphs}
    FILE.write_text(json.dumps(found, separators=(",", ":")).replace('{"nodes"', '\n{"nodes"') + "\n")
    return 0


_NODE_KEYS = (
    "tag",
    "mode",
    "inputs",
    "outputs",
    "pre_padding",
    "post_padding",
    "stride",
    "dilation",
    "math_mode",
)
_TENSOR_KEYS = ("uid", "dim", "stride", "is_virtual", "data_type")

if __name__ == "__main__":
    sys.exit(main())
