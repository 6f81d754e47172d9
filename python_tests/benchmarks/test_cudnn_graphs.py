"""The CUDA module's convolution graphs, carried out in NumPy from their description, are the reference's."""

from __future__ import annotations

import copy
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_cases import CONV

CASES = {label: case for label, case in CONV.items() if case[0][0]}


@pytest.fixture(scope="module")
def graphs() -> Iterator[Any]:
    benchmarks = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, benchmarks)
    yield importlib.import_module("cudnn_graphs")
    sys.path.remove(benchmarks)


@pytest.fixture(scope="module")
def known(graphs: Any) -> Any:
    return json.loads(graphs.FILE.read_text())


def test_the_graphs_are_those_of_the_headers(graphs: Any, known: Any) -> None:
    assert known["sources"] == graphs.fingerprint(), "renew them: python benchmarks/cudnn_graphs.py says how"
    assert set(known["graphs"]) == set(CASES)
    assert all(set(passes) == set(graphs.PASSES) for passes in known["graphs"].values())


def _drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).integers(-3, 4, shape).astype(np.float64)


def _computed(graphs: Any, graph: Any, reference: Any, label: str, which: str) -> tuple[Any, Any]:
    """What the graph gives and what it shall give, as arrays (N, H, W, C) or (K, R, S, C / groups)."""
    shape, (k, r, s), stride, pads, groups = CASES[label]
    x, w, b = _drawn(*shape), _drawn(k, r, s, shape[3] // groups), _drawn(k)
    bias = b if which.endswith("bias") else None
    y = reference.conv2d_forward(x, w, bias, stride, pads, groups, "float32")
    dy = _drawn(*y.shape)
    dx, dw, _ = reference.conv2d_backward(x, w, dy, stride, pads, groups, (True, True, False), "float32")
    given = {graphs.X: x, graphs.W: w, graphs.Y: dy, graphs.BIAS: b}
    out, expected = {
        "data gradient": (graphs.X, dx),
        "weight gradient": (graphs.W, dw),
    }.get(which, (graphs.Y, y))
    needed = {uid for node in graph["nodes"] for uid in node["inputs"].values()}
    stored = graphs.execute(
        graph, {uid: a.ravel() for uid, a in given.items() if uid in needed and uid != out}
    )
    assert set(stored) == {out}
    return stored[out].reshape(expected.shape), expected


@pytest.mark.parametrize("label", CASES)
def test_every_pass_is_the_references(graphs: Any, known: Any, reference: Any, label: str) -> None:
    for which, graph in known["graphs"][label].items():
        assert {tensor["data_type"] for tensor in graph["tensors"] if not tensor["is_virtual"]} == {"HALF"}
        assert all(
            node.get("math_mode", "CROSS_CORRELATION") == "CROSS_CORRELATION" for node in graph["nodes"]
        )
        got, expected = _computed(graphs, graph, reference, label, which)
        np.testing.assert_array_equal(got, expected, err_msg=which)


def _swap_pads(graph: Any) -> None:
    node = graph["nodes"][0]
    node["pre_padding"], node["post_padding"] = node["post_padding"], node["pre_padding"]


def _channels_first(graph: Any) -> None:
    for tensor in graph["tensors"]:
        if tensor["uid"] == 1:
            _, c, h, w = tensor["dim"]
            tensor["stride"] = [c * h * w, h * w, w, 1]


def _one_row_more(graph: Any) -> None:
    graph["nodes"][0]["post_padding"][0] += 2


@pytest.mark.parametrize(
    ("fault", "passes"),
    [
        (_swap_pads, ("forward", "data gradient", "weight gradient")),
        (_channels_first, ("forward", "data gradient", "weight gradient")),
        (_one_row_more, ("forward",)),
    ],
)
def test_a_graph_that_is_wrong_gives_other_numbers(
    graphs: Any, known: Any, reference: Any, fault: Callable[[Any], None], passes: tuple[str, ...]
) -> None:
    label = "3x3-same-even-stride2"
    for which in passes:
        graph = copy.deepcopy(known["graphs"][label][which])
        fault(graph)
        try:
            got, expected = _computed(graphs, graph, reference, label, which)
        except ValueError:
            continue  # extents that do not fit
        assert not np.array_equal(got, expected)
