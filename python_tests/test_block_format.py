"""Block formats and the policies made of them: names, plans by layer and epoch, and what operations do."""

from __future__ import annotations

import dataclasses
from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F
from fp16engine import nn
from fp16engine.numerics.audit import Audit
from fp16engine.precision import active

NAMES = ("hbfp2", "hbfp4", "hbfp16", "hbfp6-b256", "hbfp4-t8", "hbfp8-e5-sr")


@pytest.mark.parametrize("name", NAMES)
def test_names_read_back(name: str) -> None:
    fmt = fe.BlockFormat.named(name)
    assert fmt.name == name
    policy = fe.Precision.get(name)
    assert (policy.name, policy.block_format) == (name, fmt)
    assert fe.BlockFormat(**dataclasses.asdict(fmt)) == fmt


def test_defaults_are_dropped_from_names() -> None:
    assert fe.Precision.get("hbfp4-b64-e10").name == "hbfp4"
    assert fe.Precision.get("booster-k1-b64").name == "booster"
    assert fe.Precision.get("booster-k10-b16-w12").name == "booster-k10-b16-w12"


def test_bits_count_the_share_of_the_exponent() -> None:
    assert fe.BlockFormat(4, 64).bits == 5 + 10 / 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mantissa": 1}, "mantissa must .* got 1"),
        ({"mantissa": 4, "block": 1025}, "block must .* got 1025"),
        ({"mantissa": 4, "exponent_bits": 1}, "exponent_bits must .* got 1"),
        ({"mantissa": 4, "rounding": "up"}, "rounding must .* got 'up'"),
        ({"mantissa": 4, "block": 60, "tile": True}, "block must .* got 60"),
    ],
)
def test_impossible_formats(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fe.BlockFormat(**fields)


def test_block_operands_need_float32_storage() -> None:
    with pytest.raises(fe.UnsupportedPrecision, match=r"storage must .* got 'float16'"):
        dataclasses.replace(fe.Precision.get("fp16"), operand=fe.BlockFormat(4))


def test_booster_by_epoch_and_layer() -> None:
    policy, paths = fe.Precision.get("booster-k2"), ["a", "b.x", "b.y", "c"]
    early, late = policy.at(7, 10), policy.at(8, 10)
    assert early is policy
    assert policy.block_format == fe.BlockFormat(4)
    assert early.layers(paths) == {"a": fe.BlockFormat(6), "c": fe.BlockFormat(6)}
    assert (late.block_format, late.layers(paths)) == (fe.BlockFormat(6), {})
    assert fe.Precision.get("fp16").at(9, 10) is fe.Precision.get("fp16")


def test_layers_of_their_own_win_over_first_and_last() -> None:
    policy = fe.Precision.get("booster").with_layers({"b": "hbfp8", "c": "fp32"})
    paths = ["a", "b.x", "b.y", "c"]
    eight = fe.BlockFormat(8)
    assert policy.layers(paths) == {"a": fe.BlockFormat(6), "b.x": eight, "b.y": eight, "c": "float32"}
    late = policy.at(9, 10)
    assert late.layers(paths) == {"b.x": eight, "b.y": eight, "c": "float32"}
    with pytest.raises(ValueError, match=r"layers must .* got 'b'"):
        policy.layers(["a", "c"])


def test_describe_says_the_plan() -> None:
    said = fe.Precision.get("booster-w12").describe()
    assert said["operand"].endswith("; the last epoch in hbfp6; first and last layer in hbfp6")
    assert "4-bit mantissas, runs of 64 along the reduction" in said["operand"]
    assert said["storage"].startswith("binary32 (FP32); weights: block floating point, 12-bit mantissas")


def test_a_layers_operand_reaches_its_products_in_both_directions() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)).to("reference")
    fe.train.layer_formats.assign(model, fe.Precision.get("booster"))
    x = fe.tensor(np.ones((2, 6), np.float32), device="reference", requires_grad=True)
    with Audit() as audit, fe.Precision.get("booster").use():
        model(x).sum().backward()
    seen = {(row.op, row.operand): row.calls for row in audit.rows if row.op.startswith("linear")}
    assert seen == {
        (f"linear_{way}", f): n for way in ("forward", "backward") for f, n in (("hbfp6", 2), ("hbfp4", 1))
    }
    fe.train.layer_formats.assign(model, fe.Precision.get("fp32"))
    assert all(module.operand is None for _, module in model.named_modules())


def test_a_layer_kept_in_fp32_takes_its_operands_as_stored() -> None:
    model: Any = nn.Sequential(nn.Linear(6, 5)).to("reference")
    policy = fe.Precision.get("hbfp2").with_layers({"0": "fp32"})
    fe.train.layer_formats.assign(model, policy)
    x = fe.tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6), device="reference")
    with policy.use():
        y = model(x).numpy()
    model[0].operand = None
    bounds.same_bits(y, model(x).numpy())
    with policy.use():
        assert (model(x).numpy() != y).any()


def test_gradients_pass_straight_through(backend_name: str) -> None:
    """The gradient of a rounded product is the product of rounded arrays: rounding has derivative one."""
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(s).astype(np.float32) for s in ((4, 70), (3, 70), (4, 3)))
    tx, tw = (fe.tensor(a, device=backend_name, requires_grad=True) for a in (x, w))
    with fe.Precision.get("hbfp4").use():
        F.linear(tx, tw).backward(fe.tensor(dy, device=backend_name))
    assert active().name == "fp32"  # the format is the forward pass's, not the one active in backward
    backend: Any = fe.backend.get(backend_name)
    arrays = [backend.from_numpy(a) for a in (x, w, dy)]
    expected = backend.linear_backward(*arrays, (True, True, False), "float32", fe.BlockFormat(4))
    for got, array in zip((tx.grad, tw.grad), expected, strict=False):
        bounds.same_bits(got.numpy(), np.asarray(backend.to_numpy(array)))


def test_narrow_tensors_are_refused() -> None:
    x = fe.tensor(np.ones((2, 2)), "float16", "reference")
    with (
        fe.Precision.get("hbfp4").use(),
        pytest.raises(fe.UnsupportedPrecision, match=r"precision: tensors must .* got float16"),
    ):
        x @ x


def test_evaluation_rounds_to_nearest_and_training_draws() -> None:
    x = fe.tensor(np.random.default_rng(0).standard_normal((8, 70)).astype(np.float32), device="reference")
    w = fe.tensor(np.random.default_rng(1).standard_normal((70, 8)).astype(np.float32), device="reference")
    fe.manual_seed(1)
    with fe.Precision.get("hbfp4-sr").use():
        first, second = (x @ w).numpy(), (x @ w).numpy()
        with fe.no_grad():
            third = (x @ w).numpy()
    with fe.Precision.get("hbfp4").use():
        nearest = (x @ w).numpy()
    assert (first != second).any()
    bounds.same_bits(third, nearest)
