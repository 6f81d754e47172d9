"""Tests of the audit: what it sees, what a policy allows, and that it leaves no trace."""

import json

import numpy as np
import pytest

import fp16engine as fe
from fp16engine import backend as backends
from fp16engine.numerics import Audit, audit_step
from fp16engine.observer import observe


def audited(precision, model="resnet20", device="reference", **options):
    digits = fe.data.digits().limit(4)
    net = fe.models.create(model, image_size=8, channels=1)
    trainer = fe.Trainer(net, precision=precision, device=device, **options)
    x = digits.normalised("train", trainer.precision.storage)
    return audit_step(trainer, x, digits.train.labels), trainer


def test_fp16_has_no_32_bit_tensor(backend_name):
    audit, trainer = audited("fp16", device=backend_name)
    assert audit.float32_tensors() == []
    assert audit.float32_persistent() == []
    assert audit.float32_accumulators() != []
    assert audit.to_dict(trainer.precision)["float32_tensors"] == 0


def test_fp16_strict_has_no_32_bit_accumulator_either(backend_name):
    audit, _ = audited("fp16-strict", device=backend_name)
    assert audit.float32_tensors() == []
    assert audit.float32_accumulators() == []
    assert {row.accumulator for row in audit.rows} == {"float16", "none"}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
def test_fp16_state_of_every_optimizer_is_16_bit(optimizer):
    audit, _ = audited("fp16", model="dnn", optimizer=optimizer, lr=1e-3)
    assert audit.float32_tensors() == []
    assert {entry.dtype for entry in audit.persistent} == {"float16"}


def test_mp_keeps_32_bit_only_where_it_says_so():
    audit, trainer = audited("mp")
    assert audit.float32_tensors() != []
    assert audit.float32_tensors(trainer.precision) == []
    update = next(
        row for row in audit.rows if row.op == "sgd"
    )  # recorded although the first steps are skipped
    assert ("masters", "float32") in update.inputs
    assert {"master weights", "optimizer state"} <= {e.kind for e in audit.float32_persistent()}


@pytest.mark.parametrize("precision", ["fp16", "fp16-strict"])
def test_master_weights_of_norms_are_allowed_where_the_policy_has_master_weights(precision):
    audit, trainer = audited(fe.Precision.get(precision).changed(update="master32"))
    assert {"master weights of norms", "optimizer state of norms"} <= {
        e.kind for e in audit.float32_persistent()
    }
    assert audit.to_dict(trainer.precision)["not_allowed"] == 0
    assert audit.to_dict(fe.Precision.get(precision))["not_allowed"] > 0


def test_fp32_is_32_bit_and_allowed():
    audit, trainer = audited("fp32", model="dnn")
    assert audit.float32_tensors() != []
    assert audit.to_dict(trainer.precision)["not_allowed"] == 0


def test_a_32_bit_activation_in_fp16_is_found_and_not_allowed():
    policy = fe.Precision.get("fp16")
    with Audit() as audit, policy.use():
        (fe.tensor([1.0, 2.0], dtype="float32", device="reference") * 2.0).sum()
    assert {row.op for row in audit.float32_tensors(policy)} >= {"binary", "sum"}
    for name in ("mp", "fp16-strict"):
        assert "binary" in {row.op for row in audit.float32_tensors(fe.Precision.get(name))}


def test_integers_are_listed_apart():
    with Audit() as audit:
        table = fe.tensor(np.ones((3, 2), np.float16), device="reference")
        fe.functional.embedding(fe.tensor(np.array([0, 2]), device="reference"), table)
    row = next(row for row in audit.rows if row.op == "embedding")
    assert row.integers == (("ids", "int64"),)
    assert dict(row.inputs) == {"table": "float16"}


def test_rows_count_calls_and_keep_order():
    with Audit() as audit:
        x = fe.tensor([1.0], dtype="float16", device="reference")
        for _ in range(3):
            x = x + x
        x.sum()
    ops = [row.op for row in audit.rows]
    assert ops.index("binary") < ops.index("sum")
    assert next(row.calls for row in audit.rows if row.op == "binary") == 3
    assert "binary" in audit.table() and "float16" in audit.table()


def test_to_dict_is_json():
    audit, trainer = audited("mp", model="dnn")
    assert json.loads(json.dumps(audit.to_dict(trainer.precision), allow_nan=False))["rows"]


def test_an_audited_step_changes_nothing():
    digits = fe.data.digits().limit(8)
    x, y = digits.normalised("train", "float16"), digits.train.labels
    weights = []
    for watched in (False, True):
        net = fe.models.create("dnn", image_size=8, channels=1)
        trainer = fe.Trainer(net, precision="fp16", device="reference")
        if watched:
            with Audit():
                trainer.step(x, y)
        else:
            trainer.step(x, y)
        weights.append(net.state_dict())
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_hook_is_removed_after_an_error_too():
    plain = backends.get("reference")
    with pytest.raises(RuntimeError, match="inside"), Audit():
        assert backends.get("reference") is not plain
        raise RuntimeError("inside")
    assert backends.get("reference") is plain


def test_observers_nest():
    seen = []

    def watch(name):
        def around(call):
            seen.append((name, call.op))
            return call.run()

        return around

    with observe(watch("outer")), observe(watch("inner")):
        backends.get("reference").zeros((1,), "float16")
    assert seen == [("inner", "zeros"), ("outer", "zeros")]
