"""Lists and dictionaries of modules, partial states, summaries, and a warning of what nobody finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import nn


class Net(nn.Module):
    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: fe.Tensor) -> fe.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_a_list_is_registered_moved_and_run() -> None:
    net = Net(nn.ModuleList([nn.Linear(2, 3), nn.ReLU()])).to("cpu", "fp16")
    net.layers.append(nn.Linear(3, 1).to("cpu", "fp16"))
    assert [name for name, _ in net.named_parameters()] == [
        "layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias",
    ]  # fmt: skip
    assert net(fe.tensor([[1.0, 2.0]], "float16")).shape == (1, 1)
    assert len(net.layers) == 3 and net.layers[-1] is list(net.layers)[2]


def test_a_dict_is_registered() -> None:
    heads = nn.ModuleDict({"a": nn.Linear(2, 1)})
    heads["b"] = nn.ReLU()
    assert list(heads) == list(heads.keys()) == ["a", "b"] and "a" in heads and len(heads) == 2
    assert [name for name, _ in Net(heads).named_parameters()] == ["layers.a.weight", "layers.a.bias"]
    with pytest.raises(TypeError, match=r"ModuleDict: entry 'c' must be a Module, got 3"):
        heads["c"] = 3  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"ModuleList: entry 0 must be a Module, got the class ReLU"):
        nn.ModuleList([nn.ReLU])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "held",
    [{"a": nn.ReLU()}, [[nn.ReLU()]], [{"a": nn.ReLU()}], {nn.ReLU()}],
    ids=["dict", "list-in-list", "dict-in-list", "set"],
)
def test_modules_that_nobody_finds_are_told(held: Any) -> None:
    with pytest.warns(UserWarning, match=r"Net\.layers.* which are not trained, moved or saved"):
        list(Net(held).parameters())


@pytest.mark.parametrize("held", [{"a": 1}, [[1, 2]], [nn.ReLU()], {"a": np.ones(2)}])
def test_other_values_are_no_matter(held: Any) -> None:
    list(Net(held).parameters())  # a warning is an error in these tests


def test_a_partial_state_says_what_it_left_out() -> None:
    model, other = (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, n)) for n in (2, 2))
    state = other.state_dict()
    kept = model.state_dict()["1.bias"] + np.float32(1)
    model[1].bias.data[...] = kept  # type: ignore[attr-defined]
    del state["1.bias"]
    found = model.load_state_dict({**state, "2.bias": kept}, strict=False)
    assert found == (("1.bias",), ("2.bias",))
    for name, values in model.state_dict().items():
        assert values.tobytes() == (kept if name == "1.bias" else other.state_dict()[name]).tobytes()
    with pytest.raises(ValueError, match=r"load_state_dict: '1.weight' must be of shape \(2, 3\)"):
        model.load_state_dict({"1.weight": np.ones((5, 3), np.float32)}, strict=False)
    with pytest.raises(ValueError, match=r"must hold '1.bias'"):
        model.load_state_dict(state)


def test_a_summary_leaves_the_model_as_it_was() -> None:
    model = fe.models.create("resnet20", image_size=8, channels=1)
    model.train()
    before = model.state_dict()
    text = model.summary((8, 8, 1))
    assert text.splitlines()[-1].startswith("270,122 parameters (270,122 trained, 0 frozen)")
    assert "Linear" in text and "(N, 10)" in text
    rows = [line.split() for line in text.splitlines()[1:-1]]
    assert sum(int(row[-1].replace(",", "")) for row in rows) == model.num_parameters()
    after = model.state_dict()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert model.training and all("forward" not in vars(m) for _, m in model.named_modules())


def test_a_summary_counts_what_is_frozen_and_names_what_is_not_called() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, x: fe.Tensor) -> fe.Tensor:
            return self.used(x)

    model = Branches()
    model.used.bias.requires_grad = False
    assert "not called" in model.summary((2,))
    assert "6 parameters (5 trained, 1 frozen), 24 bytes" in model.summary((2,))
    with pytest.raises(ValueError, match="linear: x must"):
        model.summary((3,))
    with pytest.raises(ValueError, match=r"input_shape must be an integer >= 1, got 0"):
        model.summary((0,))
