"""The policy record and its presets."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import functional as F
from fp16engine.backend.capabilities import Capabilities
from fp16engine.loss_scale import LossScale
from fp16engine.precision import active


def test_presets_say_what_the_contract_says() -> None:
    rows = {name: dataclasses.astuple(fe.Precision.get(name))[1:6] for name in fe.Precision.names()}
    half, single = "float16", "float32"
    assert rows == {
        "fp32": (single, single, single, single, "nearest"),
        "fp16": (half, half, single, half, "nearest"),
        "fp16-strict": (half, half, half, half, "nearest"),
        "mp": (half, half, single, single, "master32"),
    }
    assert [fe.Precision.get(n).loss_scale is None for n in rows] == [True, True, True, False]


def test_describe_says_every_choice_in_words() -> None:
    assert fe.Precision.get("mp").describe() == {
        "storage": "binary16 (FP16)",
        "operand": "binary16 (FP16)",
        "accumulate": "binary32 (FP32)",
        "statistics": "binary32 (FP32)",
        "update": "on an FP32 master copy, then rounded to storage",
        "loss_scale": "dynamic, from 32768 within [1, 32768]",
        "convolution": "Winograd's algorithm (where the device has it: 3x3 kernels, stride 1, 16 channels or "
        "more), else direct sums",
    }


def test_a_device_without_winograd_is_said_to_take_direct_sums() -> None:
    backend = SimpleNamespace(capabilities=Capabilities())
    assert fe.Precision.get("fp16").describe(backend)["convolution"] == "direct sums"
    assert fe.Precision.get("fp16").convolution_by(backend, (16, 3, 3, 16), (1, 1), 1) == "direct"


@pytest.mark.parametrize("name", ["fp32", "fp16", "mp", "fp16+kahan"])
def test_winograd_is_the_default_where_operands_are_stored_and_sums_fp32(name: str) -> None:
    assert fe.Precision.get(name).convolution == "winograd"
    direct = fe.Precision.get(name).changed(convolution="direct")
    assert (direct.name, direct.convolution) == (f"{name}+direct", "direct")
    assert direct == fe.Precision.get(f"{name}+direct")
    assert direct.changed(convolution="winograd") == fe.Precision.get(name)


@pytest.mark.parametrize("name", ["fp16-strict", "fp16-chunk32", "hbfp4", "booster", "tf32"])
def test_other_policies_are_direct(name: str) -> None:
    assert fe.Precision.get(name).convolution == "direct"


def test_layers_in_block_formats_make_fp32_direct() -> None:
    mixed = fe.Precision.get("fp32").with_layers({"stem": "hbfp8"})
    assert mixed.convolution == "direct"
    block = mixed.layers(["stem", "top"])["stem"]
    assert fe.Precision.get("fp32").with_operand(block).convolution == "direct"


def test_use_nests_and_ends_after_an_error() -> None:
    strict, mp = fe.Precision.get("fp16-strict"), fe.Precision.get("mp")
    assert active().accumulate == "float32"
    with strict.use():
        with mp.use():
            assert active() is mp
        assert active() is strict
    with pytest.raises(KeyError), strict.use():
        raise KeyError
    assert active().name == "fp32"


def test_get_passes_a_policy_through() -> None:
    policy = dataclasses.replace(fe.Precision.get("fp16"), name="mine")
    assert fe.Precision.get(policy) is policy


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "fp8",
            ValueError,
            "precision must .* got 'fp8'",
        ),
        ("hbfp", ValueError, "precision must .* got 'hbfp'"),
        ("hbfp17", ValueError, "precision: mantissa must .* got 17"),
        (
            "booster-b2000",
            ValueError,
            "precision: block must .* got 2000",
        ),
        ("booster-k0", ValueError, "precision: late_epochs must .* got 0"),
        ("hbfp4-b16-t8", ValueError, "precision: name must .* got 'hbfp4-b16-t8'"),
        (16, ValueError, "precision must .* got 16"),
    ],
)
def test_unknown_names(name: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fe.Precision.get(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage": "float8"}, "storage must .* got 'float8'"),
        ({"storage": "bfloat16"}, "operand must be 'bfloat16' as storage is, got 'float16'"),
        ({"storage": "bfloat16", "operand": "bfloat16"}, "statistics must be 'bfloat16' .* got 'float16'"),
        (
            {f: "bfloat16" for f in ("storage", "operand", "statistics")} | {"accumulate": "float16:32"},
            "accumulate must be 'float32' with bfloat16 storage, got 'float16:32'",
        ),
        ({"statistics": "bfloat16"}, "statistics must be 'float16' .* got 'bfloat16'"),
        ({"operand": "float32"}, "operand must .* got 'float32'"),
        (
            {"update": "up"},
            "update must .* got 'up'",
        ),
        (
            {"storage": "float32", "operand": "float32", "statistics": "float32", "update": "stochastic"},
            "update must .* got 'stochastic'",
        ),
        (
            {"storage": "float32", "operand": "float32", "statistics": "float32", "accumulate": "float16"},
            "accumulate must .* got 'float16'",
        ),
        (
            {"accumulate": "float16", "statistics": "float32"},
            "statistics must .* got 'float32'",
        ),
    ],
)
def test_impossible_policies(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(fe.UnsupportedPrecision, match=message):
        dataclasses.replace(fe.Precision.get("fp16"), **changes)


@pytest.mark.parametrize(
    "fields", [{"initial": 3.0}, {"growth": 0.5}, {"backoff": 2.0}, {"initial": 2.0**30}, {"interval": 0}]
)
def test_loss_scale_is_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=rf"^{next(iter(fields))} must .* got {next(iter(fields.values()))}$"
    ):
        fe.LossScale(**fields)


def test_strict_refuses_wider_tensors(backend_name: str) -> None:
    x = fe.tensor([1.0], device=backend_name)
    with fe.Precision.get("fp16-strict").use():
        with pytest.raises(
            fe.UnsupportedPrecision, match=r"precision must .* got 'fp16-strict' with float16"
        ):
            x.sum()
        assert x.astype("float16").sum().dtype == "float16"


def test_the_accumulator_reaches_the_kernel(backend_name: str) -> None:
    # 64 * 32 = 2048 ones, then 32 more: binary16 partial sums of blocks of 32 still count exactly to 2080
    # while a value of 1/4096 per term is lost in a binary16 sum near 1 and kept in an FP32 one
    data = np.full(4096, 1 / 4096, np.float16)
    data[0] = 1.0
    x = fe.tensor(data, device=backend_name)
    wide = x.sum().item()
    with fe.Precision.get("fp16-strict").use():
        narrow = x.sum().item()
    assert wide == np.float16(1 + 4095 / 4096)
    assert narrow < wide


def test_backward_keeps_the_accumulator_of_forward(backend_name: str) -> None:
    x = fe.tensor(np.ones((4, 2)), "float16", backend_name, requires_grad=True)
    with fe.Precision.get("fp16-strict").use():
        y = F.softmax(x).sum()
    assert y.node.acc == "float16"
    y.backward()
    assert x.grad.dtype == "float16"


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("fp16", {"update": "master32"}),
        ("mp", {"update": "nearest"}),
        ("mp", {"loss_scale": None}),
        ("fp16", {"loss_scale": LossScale.from_histogram(), "update": "kahan"}),
        ("hbfp6-b16", {"update": "kahan"}),
        ("fp16-chunk32", {"update": "stochastic"}),
    ],
)
def test_a_policy_that_is_not_the_preset_has_another_name(name: str, choices: dict[str, Any]) -> None:
    preset = fe.Precision.get(name)
    changed = preset.changed(**choices)
    assert changed.name != name and changed.name.startswith(f"{name}+")
    assert fe.Precision.get(changed.name) == changed
    assert changed.changed(**{field: getattr(preset, field) for field in choices}) == preset
    with pytest.raises(ValueError, match=rf"^name must .*'{name}'.* got "):
        dataclasses.replace(preset, **choices)


def test_a_preset_name_with_other_choices_is_refused() -> None:
    with pytest.raises(ValueError, match=r"name must .* got statistics 'float32'"):
        fe.Precision("fp16", "float16", "float16", "float32", "float32")
    with pytest.raises(ValueError, match=r"name must .* got storage 'float32'"):
        fe.Precision("fp16", "float32", "float32", "float32", "float32")
    with pytest.raises(ValueError, match=r"name must .*'fp16\+kahan'.* got update 'master32'"):
        fe.Precision("fp16+kahan", "float16", "float16", "float32", "float16", "master32")


@pytest.mark.parametrize(
    "name", ["fp16+nearest", "fp16+kahan+stochastic", "fp16+kahan+kahan", "fp16+", "mine+kahan"]
)
def test_a_suffix_names_one_other_choice_once(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^precision must .* got {re.escape(repr(name))}$"):
        fe.Precision.get(name)
    assert fe.Precision.get("fp16+auto-scale+kahan").name == "fp16+kahan+auto-scale"


def test_what_a_plan_puts_in_force_says_so() -> None:
    booster = fe.Precision.get("booster")
    assert booster.at(0, 2) is booster
    assert booster.at(1, 2).name == "booster in hbfp6"


def test_a_trainer_says_what_its_update_makes_of_the_policy() -> None:
    model = fe.models.create("dnn", image_size=8, channels=1)
    assert fe.Trainer(model, "fp16", device="reference", update="master32").precision.name == "fp16+master32"
    assert fe.Trainer(model, "fp16", device="reference", update="nearest").precision.name == "fp16"


@pytest.mark.parametrize("name", ["fp16 ", " fp16", "", "a\nb", "a\x1b[0m", "x" * 81])
def test_a_name_that_reads_as_another_is_refused(name):
    with pytest.raises(ValueError, match="name must be 1 to 80 printable"):
        fe.Precision(name, "float16", "float16", "float16", "float16")
