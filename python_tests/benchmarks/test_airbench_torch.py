"""The PyTorch peer of the airbench recipes trains as ours does in FP32."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.train import recipes

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "airbench_torch.py"
CLOSE = {"airbench94": 2e-3, "airbench94-muon": 2e-2}  # Muon blows up the rounding of small singular values


@pytest.fixture(scope="module")
def peer() -> Any:
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("airbench_torch", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.usefixtures("cpu")
@pytest.mark.parametrize(("name", "images"), [("airbench94", 128), ("airbench94-muon", 16)])
def test_the_same_training(peer: Any, name: str, images: int) -> None:
    """Eight steps of SGD, past a pull of the average; one of Muon, which is chaotic after that."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % 4
    pixels = rng.integers(0, 100, (images, 32, 32, 3)) + 40 * labels[:, None, None, None]
    split = fe.data.Split(pixels.astype(np.uint8), labels)
    data = fe.data.Dataset("coarse", split, split, tuple("abcd"))
    recipe = recipes.get(name, 16)
    model = fe.models.prepare(fe.models.create("airbench94", 4), data)
    net = peer.Net(model)
    trainer = fe.Trainer.of(model, "fp32", recipe.training, "cpu", 0)
    theirs = peer.train(net, trainer.feed(data, 16), recipe.training, 1, 0)
    ours = trainer.fit(data, 1, 16, progress=False)
    np.testing.assert_allclose(ours.epochs[0].train_loss, theirs["history"][0]["train_loss"], rtol=1e-4)
    state = model.state_dict()
    start = fe.models.create("airbench94", 4).state_dict()
    for path, p in net.trained():
        value = p.detach().numpy()
        value = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
        moved = np.linalg.norm(state[path] - start[path])
        assert moved > 0, path
        assert np.linalg.norm(state[path] - value) < CLOSE[name] * moved, path
