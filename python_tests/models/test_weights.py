"""Weights of a trained network in a new one: all but the head of another size, or nothing at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import fp16engine as fe

SMALL = {"image_size": 8, "channels": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "run"
    trainer = fe.Trainer(fe.models.create("resnet8", seed=1, **SMALL), "fp16", lr=0.05)
    trainer.fit(fe.data.digits().limit(64), epochs=1, batch_size=32, out=folder, progress=False)
    return folder


def test_every_weight_comes_along(run: Path) -> None:
    model = fe.models.create("resnet8", weights=run, **SMALL)
    saved = fe.Checkpoint.load(run).create_model()
    assert model.new_tensors == ()
    for (name, ours), (_, theirs) in zip(model.named_parameters(), saved.named_parameters(), strict=True):
        assert ours.dtype == "float32"
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=name)
    images = fe.data.digits().limit(16).normalised("test", "float32")
    probabilities = [fe.Trainer(m, "fp16").predict(images) for m in (model, saved)]
    # what rounding took from the running statistics is part of them in another form
    assert np.abs(probabilities[0] - probabilities[1]).max() <= 4 * np.finfo(np.float16).eps


def test_a_head_of_another_size_stays_new(run: Path) -> None:
    model = fe.models.create("resnet8", 3, seed=5, weights=run, **SMALL)
    fresh = fe.models.create("resnet8", 3, seed=5, **SMALL)
    assert len(model.new_tensors) == 2
    for name, values in model.state_dict().items():
        same = values.tobytes() == fresh.state_dict()[name].tobytes()
        assert same if name in model.new_tensors else not same or not values.any(), name
    assert model.config == fresh.config


def test_only_the_new_head_is_trained(run: Path) -> None:
    model = fe.models.create("resnet8", 3, weights=run, **SMALL)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in model.new_tensors
    x, y = fe.data.digits().train.images, fe.data.digits().train.labels
    before = model.state_dict()
    trainer = fe.Trainer(model, "fp32", lr=0.05, weight_decay=0.1)
    trainer.fit((x[y < 3][:60], y[y < 3][:60]), epochs=1, batch_size=32, progress=False)
    changed = [name for name, p in model.named_parameters() if p.numpy().tobytes() != before[name].tobytes()]
    assert sorted(changed) == sorted(model.new_tensors)


def test_a_file_of_plain_names_is_taken(tmp_path: Path) -> None:
    source = fe.models.create("dnn", seed=3, **SMALL)
    save_file(source.state_dict(), tmp_path / "mine.safetensors")
    model = fe.models.create("dnn", weights=tmp_path / "mine.safetensors", **SMALL)
    assert all(
        values.tobytes() == source.state_dict()[name].tobytes() for name, values in model.state_dict().items()
    )


@pytest.mark.parametrize("name", ["dnn", "resnet14", "resnet20", "vit1"])
def test_another_network_is_refused(name: str, run: Path) -> None:
    with pytest.raises(fe.CheckpointError, match="must be of this network: "):
        fe.models.create(name, weights=run, **SMALL)


def test_other_channels_are_refused(run: Path) -> None:
    with pytest.raises(fe.CheckpointError, match=r"must be of shape \(16, 3, 3, 3\), got \(16, 3, 3, 1\)"):
        fe.models.create("resnet8", image_size=8, channels=3, weights=run)


def test_what_is_no_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(fe.CheckpointError, match=words):
            fe.models.create("resnet8", weights=path, **SMALL)

    refused(tmp_path, "must hold the tensors of one checkpoint, got 0")
    refused(tmp_path / "none", "cannot be read: No such file")
    (file,) = run.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    (tmp_path / file.name).write_bytes(content)
    refused(tmp_path, "is damaged: its SHA-256 must be")
    (tmp_path / file.name).write_bytes(content[:100])
    refused(tmp_path, "is damaged")
    state = fe.models.create("resnet8", **SMALL).state_dict()
    name = next(iter(state))
    state[name].flat[0] = np.nan
    save_file(state, tmp_path / "nan.safetensors")
    refused(tmp_path / "nan.safetensors", f"must hold finite weights, got others in '{name}'")
    with pytest.raises(TypeError, match="weights must be a path, got 3"):
        fe.models.create("resnet8", weights=3, **SMALL)
