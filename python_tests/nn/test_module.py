"""`Module`: the tree, its state, and moving it between devices and precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn


class Net(nn.Module):
    def __init__(self) -> None:
        self.scales = [nn.Parameter(np.ones(1, np.float32)), nn.Parameter(np.ones(1, np.float32))]
        self.first = nn.Linear(4, 3)
        self.norm = nn.BatchNorm2d(3)
        self.blocks: list[Any] = [nn.Linear(3, 3, bias=False), nn.Sequential(nn.Linear(3, 2), nn.ReLU())]
        self.tied = self.blocks[0]

    def forward(self, x: fe.Tensor) -> fe.Tensor:
        x = self.norm(self.first(x)) * self.scales[0]
        return self.blocks[1](self.tied(self.blocks[0](x)))


def test_names_and_sharing() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scales.0",
        "scales.1",
        "first.weight",
        "first.bias",
        "norm.gamma",
        "norm.beta",
        "blocks.0.weight",
        "blocks.1.0.weight",
        "blocks.1.0.bias",
    ]
    buffers = ["norm.running_mean", "norm.running_var", "norm.updates"]
    assert [name for name, _ in net.named_buffers()] == buffers
    assert net.num_parameters() == 2 + 15 + 6 + 9 + 8
    assert len(list(net.parameters())) == 9


def test_train_and_eval_reach_every_module() -> None:
    net = Net()
    assert all(module.training for _, module in net.named_modules())
    assert net.eval() is net
    assert not any(module.training for _, module in net.named_modules())
    net.train()
    assert net.blocks[1][0].training


def test_state_dict_round_trip(backend_name: str) -> None:
    x = fe.tensor(np.random.default_rng(0).normal(size=(5, 4)), device=backend_name)
    net = Net().to(backend_name)
    net(x)
    state = net.state_dict()
    other = Net().to(backend_name)
    other.load_state_dict(state)
    net.eval(), other.eval()
    np.testing.assert_array_equal(other(x).numpy(), net(x).numpy())
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(value, state[key])


def test_state_dict_is_a_copy(backend_name: str) -> None:
    net = Net().to(backend_name)
    state = net.state_dict()
    state["first.weight"][:] = 99
    assert not np.any(net.first.weight.numpy() == 99)
    net.load_state_dict(state)
    state["first.weight"][:] = 1
    assert np.all(net.first.weight.numpy() == 99)


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        (
            "first.bias",
            None,
            ValueError,
            r"load_state_dict: the state must .* got one without it \(1 of 12 keys are missing\)",
        ),
        (
            "extra",
            np.zeros(1),
            ValueError,
            r"load_state_dict: the state must .* got key 'extra' \(1 keys are not the model's\)",
        ),
        (
            "norm.gamma",
            np.zeros(4, np.float32),
            ValueError,
            r"load_state_dict: 'norm.gamma' must .* got \(4,\)",
        ),
        (
            "norm.gamma",
            np.zeros(3, np.float16),
            TypeError,
            r"load_state_dict: 'norm.gamma' must .* got float16",
        ),
    ],
)
def test_wrong_state_changes_nothing(key: str, value: Any, error: type[Exception], message: str) -> None:
    net = Net().to("reference")
    state = {name: array + 1 for name, array in net.state_dict().items()}
    if value is None:
        del state[key]
    else:
        state[key] = value
    before = net.state_dict()
    with pytest.raises(error, match=message):
        net.load_state_dict(state)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("name", fe.Precision.names())
def test_to_precision_rounds_storage_and_statistics(backend_name: str, name: str) -> None:
    policy = fe.Precision.get(name)
    net = Net()
    exact = net.first.weight.numpy() if backend_name == "cpu" else net.first.weight.data.copy()
    assert net.to(backend_name, name) is net
    dtypes = {path: t.dtype for path, t in [*net.named_parameters(), *net.named_buffers()]}
    assert dtypes.pop("norm.updates") == "int64"
    for path, dtype in dtypes.items():
        assert dtype == (policy.statistics if path.startswith("norm.") else policy.storage), path
    np.testing.assert_array_equal(net.first.weight.numpy(), exact.astype(policy.storage))
    assert {t.device for t in net.parameters()} == {backend_name}


def test_to_drops_gradients(backend_name: str) -> None:
    net = nn.Linear(2, 1).to(backend_name)
    net(fe.tensor([[1.0, 2.0]], device=backend_name)).sum().backward()
    net.to(precision="fp16")
    assert net.weight.grad is None and net.weight.requires_grad


def test_errors_name_the_layer() -> None:
    net = Net().to("reference")
    with pytest.raises(ValueError, match=r"^first: linear: x must .* got \(1, 5\)"):
        net(fe.tensor(np.zeros((1, 5)), device="reference"))
    net.blocks[1][0].to(precision="fp16")
    with pytest.raises(TypeError, match=r"^blocks.1.0: linear: weight must .* got float16"):
        net(fe.tensor(np.zeros((1, 4)), device="reference"))


def test_repr_shows_the_tree() -> None:
    assert repr(nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))) == (
        "Sequential(\n  (0): Flatten()\n  (1): Linear(4, 2, bias=False)\n)"
    )
    assert repr(nn.Conv2d(2, 4, 3, groups=2)) == "Conv2d(2, 4, 3x3, stride=1, padding='same', groups=2)"


def test_sequential_wants_modules() -> None:
    with pytest.raises(TypeError, match=r"Sequential: layer 1 must .* got function"):
        nn.Sequential(nn.ReLU(), fe.functional.relu)  # type: ignore[arg-type]


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"Module defines no forward\(\)"):
        nn.Module()(1)
