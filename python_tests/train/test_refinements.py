"""Rates of single parameters, freezing, lookahead and test-time views: what they do, and that runs resume
with them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import bounds
import numpy as np
import pytest
import tiny_run
from tiny_run import StopAt, fit, outcome

import fp16engine as fe
from fp16engine.train import Refinements
from fp16engine.train.captured_epochs import CapturedEpochs
from fp16engine.train.lookahead import Lookahead
from fp16engine.train.views import views

ALL = Refinements((("*.beta", 4.0),), (("0.bias", 1),), lookahead=3, views="mirror")


def lookahead(state: fe.train.TrainState) -> Lookahead:
    assert state.lookahead is not None
    return state.lookahead


@pytest.mark.parametrize(
    ("precision", "optimizer", "options"),
    [
        ("fp16", "sgd", {"nesterov": True, "schedule": "triangle"}),
        ("fp16", "muon", {"schedule": "linear", "update": "kahan"}),
        ("mp", "muon", {"schedule": "cosine"}),
        ("fp16-strict", "adam", {}),
    ],
)
def test_resume_is_bit_exact(
    tmp_path: Path, backend_name: str, precision: str, optimizer: str, options: dict[str, Any]
) -> None:
    """Stopped between two pulls, after the freezing: the checkpoint holds the slow average."""

    def trainer() -> fe.Trainer:
        more = {"augment": fe.data.Augmentation(flip_lr=True, alternating=True), **options}
        return tiny_run.trainer(
            precision, backend_name, optimizer=optimizer, lr=0.01, refinements=ALL, **more
        )

    whole = fit(trainer(), tmp_path / "whole")
    with pytest.raises(MemoryError):
        fit(trainer(), tmp_path / "broken", progress=StopAt(8))
    history = fit(trainer(), tmp_path / "broken", resume=True)
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")
    assert history.views_accuracy == whole.views_accuracy is not None
    assert history.summary()["views_accuracy"] == whole.views_accuracy


def test_another_recipe_is_no_resumption(tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        fit(tiny_run.trainer(refinements=ALL), tmp_path, progress=StopAt(2))
    other = tiny_run.trainer(refinements={**ALL.to_dict(), "lookahead": 2})
    with pytest.raises(fe.CheckpointError, match=r"refinements\.lookahead"):
        fit(other, tmp_path, resume=True)
    with pytest.raises(fe.CheckpointError, match="epochs: the lookahead was laid out for 3, this run has 4"):
        fit(tiny_run.trainer(refinements=ALL), tmp_path, resume=True, epochs=4)


@pytest.mark.parametrize("precision", ["fp16", "fp16+kahan", "mp", "fp32"])
def test_a_pull_is_rounded_once(backend_name: str, precision: str) -> None:
    trainer = tiny_run.trainer(precision, backend_name, refinements={"lookahead": 2})
    state, rng = trainer.state, np.random.default_rng(0)
    backend = fe.backend.get(backend_name)
    slow = {name: array.astype(np.float64) for name, array in lookahead(state).state_dict().items()}
    fast = {}
    for i, (name, p) in enumerate(state.parameters):
        dtype = p.dtype if state.optimizer.masters[i] is None else "float32"
        fast[name] = rng.normal(size=p.shape).astype(dtype)
        if state.optimizer.masters[i] is None:
            p.data = backend.from_numpy(fast[name])
        else:
            state.optimizer.masters[i] = backend.from_numpy(fast[name])
    for i in range(len(state.optimizer.compensations)):
        shape = state.optimizer.compensations[i].shape
        state.optimizer.compensations[i] = backend.from_numpy(np.ones(shape, np.float16))
    lookahead(state).pull(0.75)
    pulled = lookahead(state).state_dict()
    for i, (name, p) in enumerate(state.parameters):
        exact = slow[name] + 0.25 * (fast[name].astype(np.float64) - slow[name])
        size = np.abs(slow[name]) + np.abs(fast[name])
        register = 4 * np.finfo(np.float32).eps * size
        bounds.bounded(pulled[name], exact, register, str(fast[name].dtype))
        master = state.optimizer.masters[i]
        if master is not None:
            bounds.same_bits(backend.to_numpy(master), pulled[name])
        bounds.same_bits(p.numpy(), pulled[name].astype(p.dtype))
    assert not any(backend.to_numpy(c).any() for c in state.optimizer.compensations)


def test_pulls_come_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 3 of 12 steps with the share 0.95^3 (t / 12)^3, and at the end all the way to the average."""
    shares: list[float] = []
    pull = Lookahead.pull
    monkeypatch.setattr(Lookahead, "pull", lambda self, share: (shares.append(share), pull(self, share)))
    trainer = tiny_run.trainer(refinements=ALL)
    trainer.fit(tiny_run.data(), 3, tiny_run.BATCH, progress=False)
    np.testing.assert_allclose(shares, [0.95**3 * (t / 12) ** 3 for t in (3, 6, 9, 12)] + [1.0])
    slow = lookahead(trainer.state).state_dict()
    for name, tensor in (*trainer.state.parameters, *trainer.state.buffers):
        if tensor.dtype.startswith("float"):
            bounds.same_bits(tensor.numpy(), slow[name])


def test_a_new_run_begins_at_the_weights_as_they_are() -> None:
    trainer = tiny_run.trainer(refinements={"lookahead": 100})
    weights = {name: np.full_like(value, 0.5) for name, value in trainer.model.state_dict().items()}
    trainer.model.load_state_dict(weights)
    trainer.fit(tiny_run.data(), 0, tiny_run.BATCH, progress=False)
    assert all(np.all(value == 0.5) for value in lookahead(trainer.state).state_dict().values())


def test_lookahead_needs_the_length_of_the_run() -> None:
    trainer = tiny_run.trainer(refinements={"lookahead": 5})
    with pytest.raises(ValueError, match="total must be given with lookahead, got None"):
        trainer.step(tiny_run.data().normalised("train", "float16"), tiny_run.data().train.labels)


def test_a_rehearsal_leaves_the_average() -> None:
    trainer = tiny_run.trainer(refinements={"lookahead": 1})
    before = lookahead(trainer.state).state_dict()
    data = tiny_run.data()
    with trainer.rehearsal():
        trainer.set_total_steps(3)
        trainer.step(data.normalised("train", "float16"), data.train.labels)
        changed = lookahead(trainer.state).state_dict()
    assert any(not np.array_equal(changed[name], value) for name, value in before.items())
    for name, value in lookahead(trainer.state).state_dict().items():
        bounds.same_bits(value, before[name])


def test_parameters_are_frozen_after_their_epochs() -> None:
    trainer = tiny_run.trainer(refinements={"trained_epochs": [("0.*", 1), ("1.gamma", 0)]})
    seen: list[dict[str, np.ndarray]] = [trainer.model.state_dict()]

    class Noted(StopAt):
        def epoch(self, record: Any) -> None:
            seen.append(trainer.model.state_dict())

    for _ in range(2):  # a second run thaws them
        trainer.fit(tiny_run.data(), 3, tiny_run.BATCH, progress=Noted(99))
    names = [name for name, _ in trainer.state.parameters]
    moved = [{name for name in names if not np.array_equal(a[name], b[name])} for a, b in pairwise(seen)]
    last = {"1.beta", "4.weight", "4.bias"}
    assert moved == [last | {"0.weight", "0.bias"}, last, last] * 2


def test_own_rates_reach_the_optimizer() -> None:
    trainer = tiny_run.trainer(lr=0.5, refinements=ALL)
    factors = dict(zip([n for n, _ in trainer.state.parameters], trainer.optimizer.lr_factors, strict=True))
    assert factors == {
        "0.weight": 1.0, "0.bias": 1.0, "1.gamma": 1.0, "1.beta": 4.0, "4.weight": 1.0, "4.bias": 1.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"refinements": {"lookahead": 5}, "schedule": "linear"}, "lookahead averages the weights"),
        ({"refinements": {"trained_epochs": [("0.bias", 1)]}}, "some parameters are trained in the first"),
        ({"refinements": {"lr_factors": [("*.beta", 2)]}}, "parameters have learning rates of their own"),
        ({"optimizer": "muon"}, "muon reads the norms"),
    ],
)
def test_such_steps_are_not_recorded(options: dict[str, Any], why: str) -> None:
    trainer = tiny_run.trainer(**options)
    captured = CapturedEpochs(trainer, trainer.feed(tiny_run.data(), tiny_run.BATCH))
    assert not captured.takes(0)
    assert captured.summary()["reasons"][0].startswith(why)


def test_views_by_hand() -> None:
    x = np.arange(2 * 4 * 5 * 3, dtype=np.float16).reshape(2, 4, 5, 3)
    assert [(weight, view is x) for weight, view in views(x, "none")] == [(1.0, True)]
    mirror = list(views(x, "mirror"))
    assert [weight for weight, _ in mirror] == [0.5, 0.5]
    bounds.same_bits(mirror[1][1], np.ascontiguousarray(x[:, :, ::-1]))
    shifted = list(views(x, "mirror-shift"))
    assert sum(weight for weight, _ in shifted) == 1 and all(view.shape == x.shape for _, view in shifted)
    for at, step in ((2, -1), (4, 1)):  # up-left: pixel (r, c) is (r - 1, c - 1) of the image, reflected
        rows = [abs(r) if r < 4 else 6 - r for r in np.arange(4) + step]
        columns = [abs(c) if c < 5 else 8 - c for c in np.arange(5) + step]
        expected = x[:, rows][:, :, columns]
        bounds.same_bits(shifted[at][1], expected)
        bounds.same_bits(shifted[at + 1][1], np.ascontiguousarray(expected[:, :, ::-1]))


def test_logits_of_the_views_are_averaged(backend_name: str) -> None:
    trainer = tiny_run.trainer("fp16", backend_name)
    data = tiny_run.data()
    feed = trainer.feed(data, tiny_run.BATCH)
    x = data.normalised("test", "float16")
    with trainer.evaluator.inference():
        logits = [
            trainer.evaluator.logits(fe.tensor(v, device=backend_name).data) for v in (x, x[:, :, ::-1])
        ]
    total = np.mean([one.numpy().astype(np.float64) for one in logits], axis=0)
    expected = float(np.mean(total.argmax(1) == data.test.labels))
    assert trainer.evaluator.score_views(feed.test, 7, "mirror") == expected
    plain = trainer.evaluator.score(feed.test, 7)[0]
    assert trainer.evaluator.score_views(feed.test, 7, "none") == plain


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"lookahead": -1}, ValueError, "lookahead must be .* got -1"),
        ({"views": "twice"}, ValueError, "views must be one of none, mirror, mirror-shift, got 'twice'"),
        ({"lr_factors": [("a", 0)]}, ValueError, r"lr_factors\[0\] must be .* got 0"),
        ({"lr_factors": ["a"]}, TypeError, r"lr_factors\[0\] must be a pattern and a value, got 'a'"),
        ({"trained_epochs": [("a", 1.5)]}, TypeError, r"trained_epochs\[0\] must be .* got 1.5"),
        ({"lr_factors": [("head.*", 2)]}, ValueError, r"lr_factors must be patterns .* got 'head\.\*'"),
        ({"pace": 1}, ValueError, r"refinements must be fields of .* got \['pace'\]"),
        (5, TypeError, "refinements must be a Refinements, fields by name or None, got"),
    ],
)
def test_wrong_refinements(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tiny_run.trainer(refinements=given)


def test_refinements_as_json() -> None:
    import json

    assert Refinements.get(json.loads(json.dumps(ALL.to_dict()))) == ALL
    config = fe.train.TrainConfig("muon", refinements=ALL)
    assert fe.train.TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", "float16"), ("mp", "float32")])
def test_the_audit_lists_the_averages(precision: str, dtype: str) -> None:
    from fp16engine.numerics.audit import persistent_arrays, persistent_forbidden

    state = tiny_run.trainer(precision, refinements=ALL).state
    (entry,) = [e for e in persistent_arrays(state) if e.kind == "slow averages"]
    assert (entry.dtype, entry.arrays) == (dtype, 4)  # two kernels, two biases; the norm's are apart
    assert not persistent_forbidden(entry.kind, entry.dtype, state.precision)
    assert persistent_forbidden(entry.kind, "float32", fe.Precision.get("fp16"))
