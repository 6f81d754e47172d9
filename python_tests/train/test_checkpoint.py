"""Checkpoints: exact bits, and one clear sentence for everything that is not one of ours."""

import contextlib
import errno
import json
import os
import pickle
import re
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
import tiny_run
from safetensors.numpy import load_file
from safetensors.numpy import save as serialise

import fp16engine as fe
from fp16engine import nn
from fp16engine.nn import running
from fp16engine.numerics import audit_step
from fp16engine.reporting.files import SaveError
from fp16engine.reporting.history import EpochSums, History
from fp16engine.train import checkpoint
from fp16engine.train.checkpoint_values import wrong_norm

HEX = "0123456789abcdef"  # draws the name of a temporary file


def state():
    return checkpoint.RunState({"batch_size": 16}, 0, 0, EpochSums(), History())


def stepped(precision="fp16", **options):
    trainer = tiny_run.trainer(precision, **options)
    data = tiny_run.data()
    trainer.step(data.normalised("train", "float32")[:16], data.train.labels[:16])
    return trainer


@pytest.fixture
def saved(tmp_path):
    trainer = stepped()
    checkpoint.save(tmp_path, trainer.state, state())
    return tmp_path


def tensor_file(directory):
    return next(directory.glob("checkpoint-*.safetensors"))


def rewrite(directory, change):
    """Apply `change` to the body of checkpoint.json and sign it again."""
    path = directory / "checkpoint.json"
    body = json.loads(path.read_text())["checkpoint"]
    change(body)
    path.write_text(json.dumps({"sha256": checkpoint._digest(body), "checkpoint": body}))


def replace_tensors(directory, tensors):
    """Put other tensors under the checkpoint's name, with the right checksum."""
    import hashlib

    content = tensors if isinstance(tensors, bytes) else serialise(tensors)
    tensor_file(directory).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    rewrite(directory, lambda body: body["tensors"].update(sha256=digest))


def bits(trainer):
    state = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    return {key: (np.asarray(v).dtype, np.asarray(v).tobytes()) for key, v in state.items()}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp16-strict", "mp"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_restores_every_bit(tmp_path, precision, optimizer):
    trainer = stepped(precision, optimizer=optimizer, lr=0.01)
    weight = trainer.model[4].weight.data
    weight.view(np.uint16 if weight.dtype == np.float16 else np.uint32)[0, :6] = [
        0,
        1,
        2,
        3,
        4,
        5,
    ]  # subnormals
    trainer.model[4].bias.data[0] = -0.0
    checkpoint.save(tmp_path, trainer.state, state())
    other = tiny_run.trainer(precision, optimizer=optimizer, lr=0.01)
    assert bits(other) != bits(trainer)
    fe.Checkpoint.load(tmp_path).restore(other)
    assert bits(other) == bits(trainer)
    assert other.state_dict() == trainer.state_dict()


def test_its_repr_is_short(saved):
    text = repr(fe.Checkpoint.load(saved))
    assert text == f"Checkpoint({str(saved / 'checkpoint.json')!r}, Sequential, fp16, epoch 0, step 1)"


def test_restored_arrays_are_writable_and_not_shared(saved):
    loaded = fe.Checkpoint.load(saved)
    first, second = tiny_run.trainer(), tiny_run.trainer()
    loaded.restore(first)
    before = bits(first)
    loaded.restore(second)
    data = tiny_run.data()
    second.step(data.normalised("train", "float32"), data.train.labels)
    assert bits(first) == before


def test_holds_the_policy_in_words_and_the_audit(tmp_path):
    trainer = stepped("mp")
    data = tiny_run.data()
    x, y = data.normalised("train", "float32")[:4], data.train.labels[:4]
    trainer.state.audit = audit_step(tiny_run.trainer("mp"), x, y).to_dict(trainer.precision)
    checkpoint.save(tmp_path, trainer.state, state())
    loaded = fe.Checkpoint.load(tmp_path / "checkpoint.json")
    assert loaded.precision == fe.Precision.get("mp")
    assert loaded.body["precision_choices"] == fe.Precision.get("mp").describe()
    other = tiny_run.trainer("mp")
    loaded.restore(other)
    assert other.state.audit == trainer.state.audit
    assert loaded.settings["optimizer"] == "sgd" and loaded.settings["batch_size"] == 16


def test_builds_named_models_and_gives_the_same_predictions(tmp_path):
    data = tiny_run.data()
    model = fe.models.create("dnn", num_classes=3, image_size=(4, 4), channels=1, seed=5)
    trainer = fe.Trainer(model, "fp16", device=tiny_run.DEVICE)
    trainer.step(data.normalised("train", "float32")[:8], data.train.labels[:8])
    checkpoint.save(tmp_path, trainer.state, state())
    loaded = fe.Checkpoint.load(tmp_path)
    again = fe.Trainer(loaded.create_model(tiny_run.DEVICE), loaded.precision, device=tiny_run.DEVICE)
    x = data.normalised("test", "float32")
    assert np.array_equal(again.predict(x), trainer.predict(x))
    assert again.evaluate(data) == trainer.evaluate(data)


def test_models_built_by_hand_are_loaded_into_one_built_again(saved):
    loaded = fe.Checkpoint.load(saved)
    with pytest.raises(fe.CheckpointError, match=r"built by hand.*load_model"):
        loaded.create_model(tiny_run.DEVICE)
    model = tiny_run.model()
    loaded.load_model(model, tiny_run.DEVICE)
    assert {str(array.dtype) for array in model.state_dict().values()} == {"float16", "int64"}
    assert np.array_equal(model.state_dict()["0.weight"], loaded.tensors["model.0.weight"])


def test_running_statistics_of_the_first_version_are_read(tmp_path):
    """FP16 variances, no remainders, no count: what was written before the native form."""
    trainer = stepped()
    data = tiny_run.data()
    x = data.normalised("test", "float32")
    checkpoint.save(tmp_path, trainer.state, state())
    tensors = load_file(tensor_file(tmp_path))
    std = tensors.pop("model.1.running_std").astype(np.float64)
    del tensors["model.1.rest"], tensors["model.1.updates"]
    tensors["model.1.running_var"] = (std**2).astype(np.float16)
    rewrite(tmp_path, lambda body: body["precision"].pop("statistics_form"))
    replace_tensors(tmp_path, tensors)
    loaded = fe.Checkpoint.load(tmp_path)
    assert loaded.precision == fe.Precision.get("fp16")
    other = tiny_run.trainer()
    loaded.load_model(other.model, tiny_run.DEVICE)
    np.testing.assert_allclose(other.predict(x), trainer.predict(x), rtol=0, atol=0.01)
    read = other.model[1].running_std.numpy().astype(np.float64)
    np.testing.assert_allclose(read, std, rtol=float(np.finfo(np.float16).eps))
    assert other.model[1].updates.numpy().item() > 1 << 30  # long past the first batches


def without_convolution(body):
    del body["precision"]["convolution"]


def with_a_direct_one(body):
    body["precision"]["convolution"] = "direct"


@pytest.mark.parametrize("earlier", [without_convolution, with_a_direct_one])
def test_fp16_of_a_file_from_before_winograd_was_direct(tmp_path, earlier):
    checkpoint.save(tmp_path, stepped().state, state())
    rewrite(tmp_path, earlier)
    loaded = fe.Checkpoint.load(tmp_path)
    assert loaded.precision == fe.Precision.get("fp16+direct")
    with pytest.raises(
        fe.CheckpointError, match=r"precision: the checkpoint has 'fp16\+direct', this run has 'fp16'"
    ):
        loaded.restore(tiny_run.trainer())
    loaded.restore(tiny_run.trainer("fp16+direct"))


@pytest.mark.parametrize("name", ["fp16", "fp16+direct", "mp+direct"])
def test_a_file_keeps_the_convolution(tmp_path, name):
    checkpoint.save(tmp_path, stepped(name).state, state())
    assert fe.Checkpoint.load(tmp_path).precision == fe.Precision.get(name)


def test_replaces_the_one_before_and_what_a_kill_left(saved):
    first = tensor_file(saved).name
    (saved / f"{first}.{HEX}.tmp").write_bytes(b"half")
    (saved / f"checkpoint.json.{HEX}.tmp").write_bytes(b"half")
    trainer = stepped()
    data = tiny_run.data()
    trainer.step(data.normalised("train", "float32")[:16], data.train.labels[:16])
    checkpoint.save(saved, trainer.state, state())
    names = sorted(path.name for path in saved.iterdir())
    assert len(names) == 2 and first not in names and names[1] == "checkpoint.json"
    assert fe.Checkpoint.load(saved).step == 2


# Damage


def refused(directory, words):
    with pytest.raises(fe.CheckpointError, match=words) as caught:
        fe.Checkpoint.load(directory)
    assert "\n" not in str(caught.value)


def test_no_checkpoint_at_all(tmp_path):
    refused(tmp_path, r" must .* got no checkpoint.json there")
    refused(tmp_path / "missing", r" must .* got no checkpoint.json there")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", r" must .* got no checkpoint.json there")
    (tmp_path / "checkpoint.json").mkdir()
    refused(tmp_path, "must be a regular file, got a folder")


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_truncated_tensors(saved, keep):
    path = tensor_file(saved)
    path.write_bytes(path.read_bytes()[:keep])
    refused(saved, r"is damaged: it must be a whole safetensors file, got ")


def test_every_flipped_byte_is_noticed(saved):
    rng = np.random.default_rng(0)
    for path in (tensor_file(saved), saved / "checkpoint.json"):
        content = path.read_bytes()
        for position in rng.choice(len(content), 60, replace=False):
            flipped = bytearray(content)
            flipped[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            try:
                body = fe.Checkpoint.load(saved).body
            except fe.CheckpointError:
                continue
            path.write_bytes(content)  # only white space between JSON values may change unnoticed
            assert body == fe.Checkpoint.load(saved).body
        path.write_bytes(content)


def test_missing_tensor_file(saved):
    tensor_file(saved).unlink()
    refused(saved, r"/checkpoint-1-\w+.safetensors must .* got no such file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"12",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"sha256": 1}',
        b'{"sha256": 1, "checkpoint": 2}',
        b'{"sha256": "0", "checkpoint": {"format": 1}}',
        pickle.dumps({"sha256": "0"}),
    ],
)
def test_json_garbage(saved, content):
    (saved / "checkpoint.json").write_bytes(content)
    refused(saved, "is damaged")


def put(section, key, value):
    def change(body):
        (body[section] if section else body)[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("", "format", 99), r"/checkpoint.json must .* got 99"),
        (put("", "trainer", []), r"/checkpoint.json is damaged: its entry 'trainer' must .* got list"),
        (lambda body: body.pop("sums"), "its entry 'sums'"),
        (put("tensors", "file", "../../etc/passwd"), r"file must .* got "),
        (put("tensors", "file", "/etc/passwd"), r"file must .* got "),
        (put("tensors", "file", f"../checkpoint-1-{'0' * 12}.safetensors"), r"file must .* got "),
        (put("tensors", "file", 3), r"file must .* got "),
        (put("precision", "storage", "float8"), r"/checkpoint.json is damaged: storage must .* got 'float8'"),
        (put("precision", "extra", 1), "is damaged"),
        (put("precision", "loss_scale", 3), "is damaged"),
        (put("model", "config", [1]), r"/checkpoint.json is damaged: model: config must .* got list"),
        (
            lambda body: body["model"].pop("class"),
            r"/checkpoint.json is damaged: model must .* got one without",
        ),
        (put("trainer", "step_count", -1), r"/checkpoint.json is damaged: step_count must .* got -1"),
    ],
)
def test_signed_nonsense_is_refused_on_loading(saved, change, words):
    rewrite(saved, change)
    refused(saved, words)


@pytest.mark.parametrize(
    "change",
    [
        put("trainer", "applied_steps", "many"),
        put("trainer", "random", {"seed": "x"}),
        put("trainer", "random", None),
        put("trainer", "scaler", {"scale": 1}),
        lambda body: body["trainer"].pop("bad_streak"),
        put("optimizer", "lr", "fast"),
        lambda body: body["optimizer"].pop("step"),
        put("optimizer", "surprise", 1),
        put("sums", "loss", "much"),
        put("sums", "surprise", 1),
        put("", "history", [1]),
        put("", "history", [{}]),
        put("", "epoch", 7),
        put("", "step", -1),
        put("", "peak_memory_bytes", -1),
    ],
)
def test_signed_nonsense_is_refused_on_restoring_and_changes_nothing(saved, change):
    rewrite(saved, change)
    trainer = tiny_run.trainer()
    before, counters = bits(trainer), trainer.state_dict()
    with pytest.raises(fe.CheckpointError, match=r"does not fit this trainer|is damaged"):
        fe.Checkpoint.load(saved).restore(trainer)
    assert bits(trainer) == before and trainer.state_dict() == counters


def header(**entries):
    content = json.dumps(entries).encode()
    return len(content).to_bytes(8, "little") + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"\xff" * 8,
        (2**60).to_bytes(8, "little") + b"{}",
        header(a={"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}),
        header(a={"dtype": "F16", "shape": [2**40, 2**40], "data_offsets": [0, 8]}) + b"\0" * 8,
        header(a={"dtype": "F16", "shape": [4], "data_offsets": [0, 80]}) + b"\0" * 8,
        header(a={"dtype": "XX", "shape": [4], "data_offsets": [0, 8]}) + b"\0" * 8,
        header(a={"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}) + b"\0" * 8,
        header(a=[1, 2]),
        pickle.dumps({"a": 1}),
    ],
)
def test_hostile_tensor_files(saved, content):
    replace_tensors(saved, content)
    refused(saved, r"must be a whole safetensors file, got ")


def altered(saved, change):
    tensors = load_file(tensor_file(saved))
    change(tensors)
    replace_tensors(saved, tensors)
    return fe.Checkpoint.load(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.update({"model.4.bias": t["model.4.bias"].astype(np.float32)}),
            r"/checkpoint.json does not fit this trainer: '4.bias' must .* got float32",
        ),
        (
            lambda t: t.update({"model.4.bias": t["model.4.bias"][:2]}),
            r"/checkpoint.json must be of this model: '4.bias' must be of shape \(3,\), got \(2,\)$",
        ),
        (
            lambda t: t.pop("model.1.running_std"),
            r"/checkpoint.json must be of this model: '1.running_std' must be of shape \(4,\), got none$",
        ),
        (
            lambda t: t.update({"model.9.weight": t["model.4.bias"]}),
            r"/checkpoint.json must be of this model: '9.weight' must not be there, got one of shape \(3,\)$",
        ),
        (
            lambda t: t.pop("optimizer.momentum.0"),
            r"/checkpoint.json does not fit this trainer: the state must .* got one without",
        ),
        (
            lambda t: t.update({"optimizer.momentum.0": t["optimizer.momentum.0"].astype(np.float32)}),
            r"/checkpoint.json does not fit this trainer: 'momentum.0' must .* got float32",
        ),
        (
            lambda t: t.update({"optimizer.momentum.0": t["model.4.bias"]}),
            r"/checkpoint.json does not fit this trainer: 'momentum.0' must .* got \(3,\)",
        ),
    ],
)
def test_other_tensors_are_named_and_change_nothing(saved, change, words):
    loaded = altered(saved, change)
    trainer = tiny_run.trainer()
    before = bits(trainer)
    with pytest.raises(fe.CheckpointError, match=words):
        loaded.restore(trainer)
    assert bits(trainer) == before


def test_another_model_is_refused(saved, tmp_path):
    loaded = fe.Checkpoint.load(saved)
    wide = fe.Trainer(tiny_run.model(width=5), device=tiny_run.DEVICE, lr=0.05, seed=3)
    with pytest.raises(
        fe.CheckpointError,
        match=r"/checkpoint.json must be of this model: .* must be of shape \(5,\), got \(4,\)",
    ):
        loaded.restore(wide)
    with pytest.raises(fe.CheckpointError, match="must be of this model"):
        loaded.load_model(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), tiny_run.DEVICE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"name": "alexnet", "image_size": 32},
            "model.name: the checkpoint has 'dnn', this run has 'alexnet'",
        ),
        ({"num_classes": 4}, "model.num_classes: the checkpoint has 3, this run has 4"),
        ({"image_size": 5}, "model.image_size"),
    ],
)
def test_named_models_are_compared_by_name(tmp_path, change, words):
    config: dict[str, Any] = {"name": "dnn", "num_classes": 3, "image_size": 4, "channels": 1, "seed": 0}
    trainer = fe.Trainer(fe.models.create(**config), device=tiny_run.DEVICE)
    checkpoint.save(tmp_path, trainer.state, state())
    other = fe.models.create(**{**config, **change})
    with pytest.raises(fe.CheckpointError, match=re.escape(words)):
        fe.Checkpoint.load(tmp_path).load_model(other, tiny_run.DEVICE)


def test_another_precision_is_refused(saved):
    with pytest.raises(fe.CheckpointError, match="precision: the checkpoint has 'fp16', this run has 'fp32'"):
        fe.Checkpoint.load(saved).restore(tiny_run.trainer("fp32"))


# A disk that refuses


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def failing(real, fail_at, number):
    calls = iter(range(1, 1 << 30))

    def call(*arguments, **options):
        if next(calls) >= fail_at:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    return call


@pytest.mark.parametrize(
    ("name", "fail_at"), [("fsync", n) for n in (1, 3)] + [("replace", n) for n in (1, 2)]
)
def test_a_full_disk_leaves_the_previous_checkpoint(saved, monkeypatch, name, fail_at):
    before = contents(saved)
    monkeypatch.setattr(os, name, failing(getattr(os, name), fail_at, errno.ENOSPC))
    trainer = stepped()
    data = tiny_run.data()
    trainer.step(data.normalised("train", "float32")[:16], data.train.labels[:16])
    with pytest.raises(
        SaveError, match="No space left on device; what was saved there before is kept"
    ) as caught:
        checkpoint.save(saved, trainer.state, state())
    assert caught.value.errno == errno.ENOSPC and isinstance(caught.value, OSError)
    after = contents(saved)
    assert before.items() <= after.items()
    assert not any(name.endswith(".tmp") for name in after)
    monkeypatch.undo()
    assert fe.Checkpoint.load(saved).step == 1


class FullFile:
    """A file of which only the first bytes fit on the disk."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        self.file.write(content[: self.room])
        if len(content) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_while_training_ends_the_run_in_one_sentence(tmp_path, monkeypatch):
    real = os.fdopen
    room: dict[str, int | None] = {"left": None}

    def opened(handle, mode="r"):
        file = real(handle, mode)
        return FullFile(file, 100) if "w" in mode and room["left"] == 0 else file

    class FillsAtStepSix:
        def step(self, epoch, step, loss, images_per_second):
            if step == 6:
                room["left"] = 0

        def begin(self, *arguments):
            pass

        epoch = note = begin

        def end(self):
            pass

    monkeypatch.setattr(os, "fdopen", opened)
    trainer = tiny_run.trainer()
    with pytest.raises(SaveError, match="No space left on device"):
        trainer.fit(tiny_run.data(), 3, 16, tmp_path, progress=FillsAtStepSix())
    room["left"] = None
    assert not list(tmp_path.glob("*.tmp"))
    assert fe.Checkpoint.load(tmp_path).step == 4
    history = tiny_run.trainer().fit(tiny_run.data(), 3, 16, tmp_path, resume=True, progress=False)
    assert len(history.epochs) == 3


def test_a_directory_that_cannot_be_written_ends_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(os.fsync, 1, errno.EROFS))
    trainer = tiny_run.trainer()
    with pytest.raises(SaveError, match="Read-only file system"):
        trainer.fit(tiny_run.data(), 1, 16, tmp_path / "out", progress=False)
    assert trainer.step_count == 0


def nested(depth):
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("trainer", "random", {"seed": 3, "stream": 2**70}), r"trainer\.random\.stream must be an"),
        (put("trainer", "step_count", 2**70), r"trainer\.step_count must be an integer of 64 bits"),
        (put("trainer", "step_count", 10**400), r"trainer\.step_count must be an integer of 64 bits"),
        (put("optimizer", "lr", float("nan")), r"optimizer\.lr must be a finite number, got nan"),
        (put("", "epoch", True), r"/checkpoint.json is damaged: its entry 'epoch' must .* got bool"),
        (put("precision", "plan", {"layers": 3}), "is damaged"),
        (put("precision", "plan", [1]), "is damaged"),
        (put("precision", "operand", {"draw": 1}), "is damaged"),
        (
            put("precision", "loss_scale", {"initial": "x"}),
            "is damaged",
        ),
        (
            put("model", "parameters", "many"),
            r"/checkpoint.json is damaged: model.parameters must .* got 'many'",
        ),
        (put("model", "class", []), r"/checkpoint.json is damaged: model: class must .* got list"),
    ],
)
def test_numbers_and_types_no_run_writes_are_named(saved, change, words):
    rewrite(saved, change)
    refused(saved, words)


@pytest.mark.parametrize("depth", [100, 900, 10**5])
def test_deep_nesting_ends_in_a_sentence(saved, depth):
    path = saved / "checkpoint.json"
    text = path.read_text()
    at = text.index('"checkpoint": {') + len('"checkpoint": {')
    path.write_text(text[:at] + '"deep": ' + "[" * depth + "]" * depth + "," + text[at:])
    refused(saved, "is damaged")


def test_nan_weights_are_refused_unless_the_run_was_not_finite(saved):
    def spoil(tensors):
        tensors["model.4.weight"][0, 0] = np.nan

    with pytest.raises(
        fe.CheckpointError,
        match=r"/checkpoint-1-\w+.safetensors is damaged: 'model.4.weight' must .* got NaN",
    ):
        altered(saved, spoil)

    def spoil_all(tensors):
        for values in tensors.values():
            if values.dtype.kind == "f":
                values.fill(np.nan)

    for _ in range(8):  # the first by name, whatever the order in which they are read
        with pytest.raises(fe.CheckpointError, match=r"is damaged: 'model.0.bias' must"):
            altered(saved, spoil_all)
    rewrite(saved, put("trainer", "nonfinite_steps", 1))
    rewrite(saved, put("trainer", "applied_steps", 0))
    assert np.isnan(fe.Checkpoint.load(saved).tensors["model.4.weight"][0, 0])


@pytest.mark.parametrize(
    "audit", [[[[1]]], {}, "x", {"rows": [1]}, {"operations": -1}, {"operations": 1, "rows": [{}]}]
)
def test_an_audit_that_is_none_is_refused(saved, audit):
    rewrite(saved, lambda body: body.update(audit=audit))
    refused(saved, "is damaged: audit")


@pytest.mark.parametrize("key", ["operations", "rows", "resident", "audited"])
def test_an_audit_with_a_wrong_entry_is_refused(tmp_path, key):
    trainer = stepped()
    data = tiny_run.data()
    x, y = data.normalised("train", "float32")[:4], data.train.labels[:4]
    audit = audit_step(tiny_run.trainer(), x, y).to_dict(trainer.precision)
    trainer.state.audit = {**audit, key: [[1]]}
    checkpoint.save(tmp_path, trainer.state, state())
    refused(tmp_path, "is damaged: audit: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body.update(epoch=-1), "epoch must be"),
        (lambda body: body.update(epoch=2**62), "history must be"),
        (lambda body: body["trainer"].update(step_count=2**62), "step_count must be"),
        (lambda body: body["trainer"].update(nonfinite_steps="x"), "nonfinite_steps must be"),
        (lambda body: body["precision"].update(name="fp16 "), "name must be"),
    ],
)
def test_impossible_numbers_are_refused_when_loading(saved, change, words):
    rewrite(saved, change)
    refused(saved, f"is damaged: {words}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body["precision"].update(loss_scale={"a": 1}), "its entry 'a' must not be there"),
        (lambda body: body["precision"].pop("loss_scale"), "its entry 'loss_scale' must be there"),
        (lambda body: body["precision"].pop("storage"), "its entry 'storage' must be there"),
        (lambda body: body["model"].update(config={}), "its entry 'name' must be there"),
    ],
)
def test_errors_name_the_entry_and_no_function(saved, change, words):
    rewrite(saved, change)
    with pytest.raises(fe.CheckpointError, match=words):
        fe.Checkpoint.load(saved).create_model()


def test_no_name_of_a_checkpoint():
    with pytest.raises(ValueError, match="the checkpoint's folder must be a path, got ''"):
        fe.Checkpoint.load("")


@pytest.mark.parametrize(("name", "value"), [("running_std", -1.0), ("running_var", -1.0), ("updates", -1)])
def test_negative_statistics_of_a_norm_are_refused(name, value):
    dtype = np.int64 if name == "updates" else np.float16
    tensors = {"model.1.running_mean": np.zeros(2, np.float16), f"model.1.{name}": np.zeros(2, dtype)}
    assert wrong_norm(tensors) is None
    tensors[f"model.1.{name}"][1] = value
    assert wrong_norm(tensors) == f"'model.1.{name}' must be >= 0, got {value}"


def test_infinite_statistics_are_converted_without_a_warning():
    infinite = np.full(2, np.inf, np.float16)
    given = {"running_mean": infinite, "running_std": infinite, "rest": np.full((2, 2), -np.inf, np.float16)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(running.converted(given, False, "float32")["running_mean"]).all()


def test_a_finished_run_whose_weights_are_nan_has_failed(tmp_path):
    data = tiny_run.data()
    tiny_run.trainer().fit(data, epochs=1, batch_size=16, out=tmp_path, progress=False)

    def spoil(tensors):
        for name, values in tensors.items():
            if name.startswith("model.") and values.dtype.kind == "f":
                values.fill(np.nan)

    rewrite(tmp_path, lambda body: body["trainer"].update(nonfinite_steps=body["trainer"]["applied_steps"]))
    rewrite(tmp_path, lambda body: body["trainer"].update(applied_steps=0))
    with contextlib.suppress(fe.CheckpointError):
        altered(tmp_path, spoil)
    history = tiny_run.trainer().fit(data, epochs=1, batch_size=16, out=tmp_path, resume=True, progress=False)
    assert "outputs are not finite" in history.failure


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"name": 3},
        {"name": []},
        {"name": "dnn", "image_size": 2**62},
        {"name": "dnn", "image_size": "a"},
        {"name": "dnn", "num_classes": -1},
        {"name": "dnn", "channels": None},
        {"name": "dnn", "seed": -1},
        {"name": "dnn", "surprise": nested(50)},
    ],
)
def test_a_hostile_model_is_not_built(saved, config):
    rewrite(saved, put("model", "config", config))
    with pytest.raises(fe.CheckpointError) as caught:
        fe.Checkpoint.load(saved).create_model()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_more_parameters_than_the_tensor_file_holds_are_refused(saved):
    rewrite(saved, put("model", "parameters", 10**12))  # which would allow a file of 64 TB
    refused(saved, r"safetensors file, got \d+ weights for a model of 1000000000000 parameters")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_classes": 400_000}, r"'7.bias' must be of shape \(400000,\), got \(3,\)"),
        ({"image_size": [900, 900]}, r"'1.weight' must be of shape \(512, 810000\), got \(512, 16\)"),
        ({"name": "resnet18-w2000"}, r"'1.bias' must not be there, got one of shape \(512,\)"),
        ({"name": "vgg19", "image_size": [32, 32]}, r"'0.bias' must be of shape \(64,\), got none"),
    ],
)
def test_a_network_that_is_not_the_tensors_own_is_never_built(tmp_path, change, words):
    config: dict[str, Any] = {"name": "dnn", "num_classes": 3, "image_size": 4, "channels": 1}
    trainer = fe.Trainer(fe.models.create(**config), device=tiny_run.DEVICE)
    checkpoint.save(tmp_path, trainer.state, state())
    rewrite(tmp_path, put("model", "config", {**trainer.model.config, **change}))
    loaded = fe.Checkpoint.load(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(fe.CheckpointError, match=f"must describe the network of its tensors: {words}$"):
            loaded.create_model()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
