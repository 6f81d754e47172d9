"""Models by name: sizes, shapes, seeds, limits, and that each learns in binary16."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import model_checks
import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F

# name: (ours, the study's table in millions or None where it gives none)
PARAMETERS = {
    "dnn": (2_103_818, None),
    "alexnet": (2_053_994, 2.09),
    "alexnet-4096": (20_972_394, None),
    "resnet20": (270_410, None),
    "resnet32": (465_290, 0.47),
    "resnet44": (660_170, None),
    "resnet56": (855_050, 0.86),
    "resnet110": (1_732_010, 1.78),
    "resnet156": (2_414_090, None),
}
OTHER_FILES = """
    resnet18 resnet34 vgg16 vgg19 densenet40 densenet121 densenet169 xception mobilenetv2 vit8 vit12
    airbench94
"""
DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"


def test_names() -> None:
    assert fe.models.names() == [*PARAMETERS, *OTHER_FILES.split()]


def test_the_table_in_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, trained values, running statistics, the difference to the paper and the smallest image."""

    class Zeros:
        def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
            return np.broadcast_to(0.0, shape)

    monkeypatch.setattr(fe.random, "generator", Zeros)
    text = DOCUMENT.read_text(encoding="utf-8").partition("## What")[0]
    rows = [re.split(r" *\| *", row)[1:-1] for row in re.findall(r"^\| `.*$", text, re.MULTILINE)]
    assert [row[0].strip("`") for row in rows] == fe.models.names()
    for (shown, trained, statistics, paper, difference, smallest), name in zip(
        rows, fe.models.names(), strict=True
    ):
        model = fe.models.create(shown.strip("`"))
        count = model.num_parameters()
        assert count == int(trained.replace(" ", "")), name
        assert model_checks.statistics(model) == int(statistics.replace(" ", "")), name
        if paper:
            percent = 100 * (count / 1e6 / float(paper) - 1)
            assert difference.split(" (")[0] == f"{percent:+.1f} %".replace("-", "\N{MINUS SIGN}"), name
            assert (" (" in difference) == (abs(percent) > 3), name
        least = int(smallest.partition("x")[0])
        fe.models.create(name, image_size=least)
        if least > 1:
            with pytest.raises(ValueError, match=r"image_size must .* got "):
                fe.models.create(name, image_size=least - 1)


@pytest.mark.parametrize("name", ["dnn", "alexnet", "resnet20", "mobilenetv2", "vit8", "transformer-tiny"])
def test_an_outline_is_the_network_without_its_values(name: str) -> None:
    sizes: dict[str, Any] = {"vocabulary": 99} if name.startswith("transformer") else {"num_classes": 7}
    config = {"name": name, **sizes}
    before = fe.random.get_state()
    outline, model = fe.models.outline(config), fe.models.from_config(config)
    assert fe.random.get_state() == before
    assert outline.config == model.config

    def shapes(of: fe.nn.Module) -> list[tuple[str, tuple[int, ...], str]]:
        return [(path, t.shape, t.dtype) for path, t in (*of.named_parameters(), *of.named_buffers())]

    assert shapes(outline) == shapes(model)
    assert all(not any(p.data.strides) for p in outline.parameters())
    assert all(any(p.data.strides) for p in model.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name: str) -> None:
    ours, paper = PARAMETERS[name]
    assert fe.models.create(name).num_parameters() == ours
    if paper is not None:
        assert abs(ours / 1e6 / paper - 1) < 0.03


@pytest.mark.parametrize(
    ("name", "size", "channels", "classes"),
    [
        ("dnn", 28, 1, 10),
        ("dnn", (3, 5), 2, 4),
        ("resnet20", 8, 1, 10),
        ("resnet20", 32, 3, 100),
        ("resnet20", (7, 5), 1, 10),
        ("resnet20", 1, 3, 2),
        ("alexnet", 32, 3, 10),
        ("alexnet", 28, 1, 10),
        ("alexnet", (27, 48), 3, 5),
    ],
)
def test_output_shapes(backend_name: str, name: str, size: Any, channels: int, classes: int) -> None:
    model = fe.models.create(name, classes, size, channels).to(backend_name, "fp16").eval()
    height, width = (size, size) if isinstance(size, int) else size
    with fe.no_grad():
        y = model(fe.tensor(np.zeros((2, height, width, channels)), "float16", backend_name))
    assert (y.shape, y.dtype) == ((2, classes), "float16")
    assert np.all(np.isfinite(y.numpy()))


def test_the_deepest_network_runs(backend_name: str) -> None:
    model = fe.models.create("resnet110", image_size=8, channels=1).to(backend_name, "fp16").eval()
    with fe.no_grad():
        assert model(fe.tensor(np.zeros((1, 8, 8, 1)), "float16", backend_name)).shape == (1, 10)


def test_seeds() -> None:
    def weights(seed: int) -> dict[str, np.ndarray]:
        return {
            k: v.data for k, v in fe.models.create("resnet20", image_size=8, seed=seed).named_parameters()
        }

    first, same, other = weights(0), weights(0), weights(1)
    for key, value in first.items():
        np.testing.assert_array_equal(value, same[key])
    assert any(not np.array_equal(value, other[key]) for key, value in first.items())


def test_create_leaves_the_global_seed_alone() -> None:
    before = fe.random.get_state()
    fe.models.create("dnn", image_size=4)
    assert fe.random.get_state() == before


@pytest.mark.parametrize("precision", ["fp16", "fp16-strict", "mp"])
def test_precisions_round_the_same_initial_weights(precision: str) -> None:
    policy = fe.Precision.get(precision)
    exact = {k: v.data.copy() for k, v in fe.models.create("resnet20", image_size=8).named_parameters()}
    rounded = fe.models.create("resnet20", image_size=8).to("reference", policy)
    for key, value in rounded.named_parameters():
        np.testing.assert_array_equal(value.numpy(), exact[key].astype(value.dtype))


def test_config_makes_the_model_again() -> None:
    model = fe.models.create("alexnet", num_classes=7, image_size=(28, 30), channels=1, seed=4)
    assert model.config == {
        "name": "alexnet",
        "num_classes": 7,
        "image_size": [28, 30],
        "channels": 1,
        "seed": 4,
    }
    again = fe.models.create(**model.config)
    for (_, a), (_, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_only_resnet_kernels_carry_a_penalty() -> None:
    model = fe.models.create("resnet20", image_size=8)
    decays = {name: p.weight_decay for name, p in model.named_parameters()}
    kernels = {name for name in decays if ".conv" in name or name.startswith("stem")}
    assert {name for name, decay in decays.items() if decay == 2e-4} == {
        n for n in kernels if n.endswith("weight")
    }
    assert {decay for decay in decays.values()} == {2e-4, None}


def test_shortcuts() -> None:
    """The first unit adds its rectified input, a plain one its input, a widening one the pooled input."""
    model = fe.models.create("resnet20", image_size=4, channels=1).to("reference").eval()
    for name, p in model.named_parameters():
        if "conv2" in name:
            p.data[...] = 0
    x = fe.tensor(np.random.default_rng(0).normal(size=(1, 4, 4, 16)), device="reference")
    first, plain, widening = model.units[0], model.units[1], model.units[3]

    def joined(unit: Any, *parts: Any) -> np.ndarray:
        branch, shortcut = unit(*parts)
        assert not branch.numpy().any()
        return shortcut.numpy()

    np.testing.assert_array_equal(joined(first, x), first.norm1(x).numpy())
    np.testing.assert_array_equal(joined(plain, x), x.numpy())
    np.testing.assert_array_equal(joined(plain, x, x), (x + x).numpy())
    wide = joined(widening, x)
    assert not wide[..., :8].any() and not wide[..., 24:].any()
    np.testing.assert_array_equal(wide[..., 8:24], F.avg_pool2d(x, 2).numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet21"}, "model must .* got 'resnet21'"),
        ({"name": "dnn", "num_classes": 0}, "num_classes must .* got 0"),
        ({"name": "dnn", "channels": -1}, "channels must .* got -1"),
        ({"name": "dnn", "image_size": 0}, "image_size must .* got 0"),
        (
            {"name": "dnn", "image_size": (1, 2, 3)},
            r"image_size must .* got \(1, 2, 3\)",
        ),
        (
            {"name": "alexnet", "image_size": 8},
            "image_size must .* got 8x8",
        ),
        (
            {"name": "alexnet-4096", "image_size": (32, 26)},
            "image_size must .* got 32x26",
        ),
        ({"name": "dnn", "seed": -1}, "seed must .* got -1"),
    ],
)
def test_wrong_arguments(options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        fe.models.create(**options)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "mp"])
@pytest.mark.parametrize(("name", "lr"), [("dnn", 0.02), ("resnet8", 0.05)])
def test_one_batch_is_learnt(backend_name: str, name: str, lr: float, precision: str) -> None:
    assert (
        model_checks.overfit(name, precision, backend_name, steps=15, lr=lr, image_size=8, channels=1) == 1.0
    )
