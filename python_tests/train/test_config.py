"""`TrainConfig`: what is checked, what is stored, and that every way to a trainer gives the same one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import tiny_run

import fp16engine as fe
from fp16engine.cli import options
from fp16engine.cli.parser import Parser
from fp16engine.experiments import comparison
from fp16engine.experiments.runs.estimate import make_trainer
from fp16engine.experiments.runs.spec import RunSpec
from fp16engine.train import TrainConfig

CONFIGS: list[dict[str, Any]] = [
    {},
    {"lr": 0.1, "momentum": 0.0, "weight_decay": 1e-4, "schedule": "cosine", "warmup": 3},
    {"nesterov": True, "augment": "crop-flip", "label_smoothing": 0.1, "clip_norm": 2},
    {"optimizer": "adam", "betas": (0.9, 0.98), "schedule": "inverse-sqrt", "warmup": 10},
    {"optimizer": "rmsprop", "eps": 1e-3, "state": "plain", "momentum": 0.5},
    {"update": "stochastic", "statistics": "plain"},
]


@pytest.mark.parametrize("given", CONFIGS)
def test_what_is_stored_comes_back(given: dict[str, Any]) -> None:
    config = TrainConfig(**given)
    stored = json.loads(json.dumps(config.to_dict()))
    assert TrainConfig.from_dict(stored) == config
    assert TrainConfig(**config.arguments()) == config


def test_the_keys_of_checkpoints_stay() -> None:
    """Files of earlier versions have these, in the files' own spelling."""
    assert TrainConfig().to_dict() == {
        "optimizer": "sgd",
        "lr": 0.01,
        "weight_decay": 0.0,
        "momentum": 0.9,
        "nesterov": False,
        "schedule": "constant",
    }
    study = fe.data.Augmentation.get("study")
    assert study is not None
    adam = TrainConfig(
        "adamw", 1, betas=(0.5, 0.75), warmup=2, clip_norm=3, augment=study, label_smoothing=0.5
    )
    assert adam.to_dict() == {
        "optimizer": "adamw",
        "lr": 1.0,
        "weight_decay": 0.0,
        "eps": None,
        "state": "native",
        "betas": [0.5, 0.75],
        "clip_norm": 3.0,
        "schedule": "constant",
        "warmup": 2,
        "augment": study.to_dict(),
        "label_smoothing": 0.5,
    }


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"optimizer": "lion"}, "optimizer must be .*, got 'lion'"),
        ({"lr": float("nan")}, "lr must be .*, got nan"),
        ({"eps": 1e-3}, r"eps must .* got 0.001"),
        ({"state": "plain"}, r"state must .* got 'plain'"),
        ({"betas": (0.9, 0.99)}, r"betas must .* got \(0.9, 0.99\)"),
        ({"optimizer": "rmsprop", "betas": (0.9, 0.99)}, r"betas must .* got \(0.9, 0.99\)"),
        ({"optimizer": "adam", "nesterov": True}, r"nesterov must .* got True"),
        ({"clip_norm": 0}, "clip_norm must be .*, got 0"),
        ({"schedule": "quadratic"}, r"schedule must .* got 'quadratic'"),
        ({"schedule": "inverse-sqrt"}, r"warmup must .* got 0"),
        ({"warmup": -1}, r"warmup must .* got -1"),
        ({"augment": "mixup"}, "augment must be .*, got 'mixup'"),
        ({"label_smoothing": 1.5}, "label_smoothing must be .*, got 1.5"),
    ],
)
def test_wrong_fields_are_named(given: dict[str, Any], argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        TrainConfig(**given)
    with pytest.raises(ValueError, match=argument):
        fe.Trainer(tiny_run.model(), device=tiny_run.DEVICE, **given)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ValueError, match="learning_rate"):
        TrainConfig.from_dict({"learning_rate": 0.1})


def test_every_way_gives_the_same_trainer() -> None:
    """Arguments of Trainer, a config, a comparison, a run of a study and the command line."""
    training: dict[str, Any] = {
        "optimizer": "adam",
        "lr": 0.02,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "eps": 1e-3,
    }
    data, device = fe.data.digits().limit(8), tiny_run.DEVICE
    model = fe.models.create("dnn", image_size=8, channels=1, seed=5)
    config = TrainConfig(**training, update="stochastic")
    named = fe.Trainer(model, "fp16", device=device, seed=5, update="stochastic", **training)
    (policy,) = comparison.policies(["fp16"], config)
    compared = comparison.Comparison("dnn", data.name, (policy,), 1, 8, config, 5, 1, device, 8, 8)
    spec = RunSpec(
        "dnn", data.name, "00", 8, 8, "fp16", 1, 8, 5, training={**training, "update": "stochastic"}
    )
    parser = Parser()
    options.add_training(parser)
    argv = "--optimizer adam --lr 0.02 --weight-decay 0.1 --schedule cosine --eps 0.001 --update stochastic"
    trainers = [
        named,
        fe.Trainer.of(model, "fp16", config, device, 5),
        compared.trainer(policy, data),
        make_trainer(spec, data, device),
        fe.Trainer.of(model, "fp16", options.train_config(parser.parse_args(argv.split())), device, 5),
    ]
    assert {trainer.config for trainer in trainers} == {config.without_policy()}
    assert {trainer.precision.name for trainer in trainers} == {"fp16+stochastic"}
    assert {trainer.seed for trainer in trainers} == {5}


def test_a_config_cannot_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 1.0  # type: ignore[misc]
