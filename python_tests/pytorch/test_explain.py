"""`explain`: the operation at which a PyTorch module left the finite numbers, named by the module's path."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")
fet: Any = importlib.import_module("fp16engine.torch")
planted: Any = importlib.import_module("pytorch_planted")


def squared(y: Any) -> Any:
    return y.float().square().mean()


def batch(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return torch.randn(16, 8).half()


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_a_forward_overflow_is_named(layer: int) -> None:
    found = fet.explain(planted.layers((layer, planted.Times(forward=1e6))), batch(), squared)
    assert (found.phase, found.layer, found.op) == ("forward", f"planted{layer}", "mul")
    assert "largest number of float16" in found.cause
    assert found.output.inf > 0
    assert f"forward pass, layer 'planted{layer}' (mul)" in found.text


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_backward_overflow_is_named(layer: int) -> None:
    model = planted.layers((layer, planted.Times(backward=60000.0)))
    found = fet.explain(model, batch(), squared, scale=1e4)
    assert (found.phase, found.layer, found.op) == ("backward", f"planted{layer}", "backward of mul")


def test_weights_of_a_layer_that_overflow() -> None:
    model = planted.layers()
    with torch.no_grad():
        model.linear2.weight[3, 4] = 65504.0
        model.linear2.bias[3] = 65504.0
    found = fet.explain(model, torch.ones(1, 8).half(), squared)
    if found.phase == "backward":  # tanh1's output may be negative there
        model.linear2.weight.data.mul_(-1)
        model.linear2.bias.data[3] = 65504.0
        found = fet.explain(model, torch.ones(1, 8).half(), squared)
    assert (found.phase, found.layer, found.op) == ("forward", "linear2", "linear")
    assert "linear2.weight" in found.inputs


@pytest.mark.parametrize("root", [torch.sqrt, lambda x: (x * 1).sqrt_()])
def test_the_root_of_0_has_no_slope(root: Any) -> None:
    layer = torch.nn.Linear(8, 4).half()
    torch.nn.init.zeros_(layer.bias)
    found = fet.explain(layer, torch.zeros(2, 8).half(), lambda y: root(y).sum())
    assert (found.phase, found.layer) == ("backward", "loss")
    assert "8 of 8 values are infinite: the slope of the square root is infinite at 0" in found.cause
    assert "loss scale" not in found.remedy and "under the root" in found.remedy
    torch.nn.init.constant_(layer.bias, 2.0**-24)  # not 0: a slope of 2^11, and a gradient that overflows
    found = fet.explain(layer, torch.zeros(2, 8).half(), lambda y: root(y).sum(), scale=64)
    assert (found.phase, found.layer) == ("backward", "loss") and "loss scale" in found.remedy


def test_a_gradient_that_overflows_in_its_sum() -> None:
    """Each of two paths brings 40000; together they are infinite, and no operation is at fault."""

    found = fet.explain(planted.Twice(), torch.ones(2).half(), lambda y: y, scale=40000.0)
    assert (found.phase, found.layer, found.op) == ("backward", "(model)", "sum of gradients")
    assert "a sum of finite gradients" in found.cause


def test_the_loss_itself() -> None:
    found = fet.explain(planted.layers(), batch(), lambda y: (y * 3000).square().mean())
    assert (found.layer, found.op) == ("loss", "square")


@pytest.mark.parametrize(
    ("function", "values", "op", "cause"),
    [
        (lambda x: 1 / (x + 1e-8), (0.0, 1, 1, 1), "rtruediv", "divided by 0"),
        (lambda x: x / (x * 0), (1.0, 1, 1, 1), "div", "divided by 0"),
        (torch.log, (0.0, 1, 1, 1), "log", "logarithm of 0"),
        (torch.sqrt, (-1.0, 1, 1, 1), "sqrt", "root of a negative"),
        (torch.exp, (12.0, 1, 1, 1), "exp", "exp overflows from 11.09"),
        (lambda x: x.pow(2), (300.0, 1, 1, 1), "pow", "beyond 65504"),
        (lambda x: x.pow_(2), (300.0, 1, 1, 1), "pow", "beyond 65504"),
        (
            lambda x: x.masked_fill(x < 9, -math.inf).softmax(0),
            (1.0, 1, 1, 1),
            "softmax",
            "masked as a whole",
        ),
    ],
)
def test_causes(function: Any, values: Any, op: str, cause: str) -> None:
    found = fet.explain(planted.Op(function), torch.tensor(values).half(), lambda y: y.float().sum())
    assert found.op == op
    assert cause in found.cause


def test_minus_infinity_on_purpose_is_no_fault() -> None:
    mask = torch.full((4,), -math.inf).half()
    mask[0] = 0.0

    def attend(x: Any) -> Any:
        masked = x.masked_fill(torch.tensor([False, True, False, False]), -math.inf)
        return (masked + torch.triu(torch.full((4, 4), -math.inf).half(), 1)).softmax(-1)

    found = fet.explain(planted.Op(attend), torch.ones(4).half(), lambda y: y.float().square().sum())
    assert found.layer is None
    found = fet.explain(
        planted.Op(lambda x: (x + mask).softmax(0)), torch.ones(4).half(), lambda y: y.float().sum()
    )
    assert found.layer is None
    assert "every result was finite" in found.text


def test_an_input_or_a_parameter_that_is_not_finite() -> None:
    x = batch()
    x[0, 0] = math.inf
    found = fet.explain(planted.layers(), x, squared)
    assert (found.layer, found.cause) == ("(input)", "the input is not finite")
    model = planted.layers()
    model.linear1.bias.data[0] = math.nan
    found = fet.explain(model, batch(), squared)
    assert (found.layer, found.op) == ("linear1", "bias")


def test_nothing_of_the_model_changes() -> None:
    """Batch norm's averages, gradients and random numbers too, whether a fault is found or not."""
    for factor in (1.0, math.inf):
        model = planted.conv_net()
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        before = {name: t.clone() for name, t in model.state_dict().items()}
        random = torch.random.get_rng_state()
        found = fet.explain(model, torch.ones(2, 3, 8, 8).half(), lambda y, f=factor: (y.float() * f).sum())
        assert (found.layer is None) == (factor == 1.0)
        assert torch.equal(torch.random.get_rng_state(), random)
        assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
        assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_arguments_by_position_and_by_name() -> None:
    large = torch.full((1,), 40000.0).half()
    for arguments in ((large, large), {"b": large, "a": large}):
        found = fet.explain(planted.Sum(), arguments, lambda out: out["y"].sum())
        assert (found.layer, found.op) == ("(model)", "add")


def test_what_is_refused() -> None:
    model = planted.layers()
    for arguments, error, words in (
        (("model", batch(), squared), TypeError, r"model must .* got 'model'"),
        ((model, batch(), 3), TypeError, r"loss must .* got 3"),
        ((model, batch(), lambda y: y), ValueError, r"loss must .* got 'shape \(16, 8\)'"),
        ((model, batch(), lambda y: y.detach().sum()), ValueError, r"loss must .* got 'shape \(\)'"),
        ((model, batch(), squared, 0.0), ValueError, r"scale must .* got 0"),
    ):
        with pytest.raises(error, match=words):
            fet.explain(*arguments)
