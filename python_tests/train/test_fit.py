"""The epoch loop: what it records, writes and refuses."""

import json
import math

import numpy as np
import pytest
import tiny_run
from safetensors.numpy import load_file

import fp16engine as fe
from fp16engine.reporting.history import WALL_TIME_FIELDS, EpochRecord, History

POLICIES = ["fp32", "fp16", "fp16-strict", "mp"]


class Listener:
    """A reporter that remembers what it was told."""

    def __init__(self):
        self.calls = []

    def begin(self, title, epochs, total_steps, done_steps):
        self.calls.append(("begin", title, epochs, total_steps, done_steps))

    def step(self, epoch, step, loss, images_per_second):
        self.calls.append(("step", epoch, step))

    def epoch(self, record):
        self.calls.append(("epoch", record.epoch))

    def note(self, text):
        self.calls.append(("note", text))

    def end(self):
        self.calls.append(("end",))


def fit(trainer, out=None, **options):
    settings = {"epochs": 2, "batch_size": 16, "progress": False, **options}
    return trainer.fit(tiny_run.data(), out=out, **settings)


@pytest.mark.parametrize("precision", POLICIES)
def test_learns_and_records_every_epoch(precision, backend_name):
    history = fit(tiny_run.trainer(precision, backend_name), epochs=5)
    assert [record.epoch for record in history.epochs] == [1, 2, 3, 4, 5]
    last = history.epochs[-1]
    assert last.test_accuracy == 1.0 and last.train_accuracy > 0.95
    assert last.train_loss < history.epochs[0].train_loss
    assert last.seconds > 0 and last.images_per_second == pytest.approx(50 / last.seconds)
    assert last.loss_scale == (2.0**15 if precision == "mp" else None)


def test_epoch_averages_are_exact_means_over_samples():
    twin = tiny_run.trainer()
    data = tiny_run.data()
    x, y = data.normalised("train", "float16"), data.train.labels
    for epoch, record in enumerate(fit(tiny_run.trainer()).epochs):
        order, total = fe.train.batches.data_order(3, epoch, 50), 0.0
        for start in range(0, 50, 16):
            index = order[start : start + 16]
            total += twin.step(x[index], y[index]).loss * len(index)
        assert record.train_loss == total / 50


def test_summary_has_the_keys_of_the_contract(tmp_path):
    out = tmp_path / "run"
    history = fit(tiny_run.trainer(), out)
    summary = history.summary()
    expected = ["precision", "test_accuracy", "train_accuracy", "train_seconds", "images_per_second", "seed"]
    expected += ["peak_memory_bytes", "nonfinite_steps", "parameters", "epochs", "precision_choices"]
    expected += ["device", "model", "data", "version"]
    assert not set(expected) - set(summary)
    assert summary["parameters"] == 243 and summary["epochs"] == 2 and summary["seed"] == 3
    assert summary["peak_memory_bytes"] > 0
    assert summary["train_seconds"] == sum(record.seconds for record in history.epochs)
    assert summary["images_per_second"] == pytest.approx(100 / summary["train_seconds"])
    assert json.loads((out / "summary.json").read_text()) == summary


def test_peak_memory_of_fp16_is_below_fp32(backend_name):
    peaks = {}
    for precision in ("fp16", "fp32"):
        model = fe.models.create("dnn", num_classes=3, image_size=4, channels=1)
        trainer = fe.Trainer(model, precision, device=backend_name)
        peaks[precision] = fit(trainer, epochs=1).peak_memory_bytes
    assert peaks["fp16"] < 0.6 * peaks["fp32"]


def test_two_runs_give_the_same_bits():
    first, second = tiny_run.trainer(), tiny_run.trainer()
    rows = [
        [{k: v for k, v in r.to_json().items() if k not in WALL_TIME_FIELDS} for r in fit(t).epochs]
        for t in (first, second)
    ]
    assert rows[0] == rows[1]
    for key, value in first.model.state_dict().items():
        assert value.tobytes() == second.model.state_dict()[key].tobytes()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_fp16_stores_no_32_bit_tensor(tmp_path, optimizer):
    fit(tiny_run.trainer("fp16", optimizer=optimizer, lr=0.01), tmp_path, epochs=1)
    tensors = load_file(next(tmp_path.glob("*.safetensors")))
    counters = {name for name in tensors if name.endswith(".updates")}
    assert {str(array.dtype) for name, array in tensors.items() if name not in counters} == {"float16"}
    assert counters and {str(tensors[name].dtype) for name in counters} == {"int64"}
    assert any(key.startswith("optimizer.") for key in tensors)


def test_mp_stores_masters_and_statistics_in_float32(tmp_path):
    fit(tiny_run.trainer("mp"), tmp_path, epochs=1)
    dtypes = {key: str(array.dtype) for key, array in load_file(next(tmp_path.glob("*.safetensors"))).items()}
    assert dtypes["model.0.weight"] == "float16" and dtypes["optimizer.master.0"] == "float32"
    assert dtypes["model.1.running_mean"] == "float32"


def test_reports_in_order():
    listener = Listener()
    fit(tiny_run.trainer(), progress=listener)
    assert listener.calls[0] == (
        "begin",
        f"Sequential (243 parameters) on tiny, fp16 on {tiny_run.DEVICE}, 50 images in batches of 16",
        2,
        8,
        0,
    )
    steps = [("step", 1, n) for n in range(1, 5)] + [("epoch", 1)] + [("step", 2, n) for n in range(5, 9)]
    assert listener.calls[1:] == [*steps, ("epoch", 2), ("end",)]


def poisoned(share):
    """Data in which the batches that hold a share of the images overflow binary16 after normalisation."""
    data = tiny_run.data()
    array = data.normalised("train", "float16")  # cached, so what fit sees
    array[: round(50 * share)] = np.nan
    return data


def test_bad_batches_are_skipped_counted_and_noted():
    listener = Listener()
    history = tiny_run.trainer().fit(poisoned(0.02), 2, 5, progress=listener)
    assert [record.nonfinite for record in history.epochs] == [1, 1]
    assert math.isfinite(history.epochs[-1].train_loss) and math.isfinite(history.epochs[-1].test_loss)
    notes = [call[1] for call in listener.calls if call[0] == "note"]
    assert notes == ["2 of 20 steps were not applied: their loss or gradient was not finite"]
    assert history.summary()["nonfinite_steps"] == 2


def test_data_full_of_nan_end_the_run(tmp_path):
    trainer = tiny_run.trainer(max_bad_steps=5)
    listener = Listener()
    with pytest.raises(fe.NonFiniteError, match="5 steps in a row"):
        trainer.fit(poisoned(1.0), 2, 5, tmp_path, progress=listener)
    assert listener.calls[-1] == ("end",)
    assert fe.Checkpoint.load(tmp_path).step == 0


def test_an_epoch_without_a_finite_loss_is_null_in_json(tmp_path):
    tiny_run.trainer().fit(poisoned(1.0), 1, 25, tmp_path, progress=False)
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["train_loss"] is None and row["nonfinite"] == 2
    again = EpochRecord.from_json({key: row[key] for key in row if key not in ("kind", "step")})
    assert math.isnan(again.train_loss)


def test_skips_of_the_loss_scale_are_one_line(tmp_path):
    trainer = tiny_run.trainer("mp")
    original, calls = trainer.state.first_nonfinite, iter(range(100))
    trainer.state.first_nonfinite = lambda: (
        "the gradient of '0.weight'" if next(calls) in (0, 1, 5) else original()
    )
    listener = Listener()
    history = fit(trainer, progress=listener)
    notes = [call[1] for call in listener.calls if call[0] == "note"]
    assert notes == [
        "loss scale 4096: 3 of 8 steps skipped, 2 of them while the start scale was found (normal)"
    ]
    assert [record.skipped for record in history.epochs] == [2, 1]
    assert history.summary()["nonfinite_steps"] == 0 and history.summary()["skipped_steps"] == 3


@pytest.mark.parametrize(("train", "size", "steps"), [(1, 4, 1), (16, 16, 1), (17, 16, 2), (5, 1000, 1)])
def test_odd_sizes(train, size, steps):
    trainer = tiny_run.trainer()
    trainer.fit(tiny_run.data(train, 1), 1, size, progress=False)
    assert trainer.step_count == steps


def test_a_second_fit_is_a_run_of_its_own():
    trainer = tiny_run.trainer()
    fit(trainer)
    history = fit(trainer, epochs=1)
    assert len(history.epochs) == 1 and trainer.step_count == 4
    assert trainer.optimizer.step_count == 12  # the optimizer's state stays


def test_cosine_reaches_zero_at_the_end():
    history = fit(tiny_run.trainer(schedule="cosine"), epochs=4)
    rates = [record.lr for record in history.epochs]
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < 0.002


def test_no_epochs_leave_a_checkpoint_and_an_empty_history(tmp_path):
    history = fit(tiny_run.trainer(), tmp_path, epochs=0)
    assert history.epochs == [] and history.summary()["test_accuracy"] is None
    assert fe.Checkpoint.load(tmp_path).step == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"epochs": -1}, ValueError, r"epochs must .* got -1"),
        ({"epochs": 1.5}, TypeError, r"epochs must .* got 1.5"),
        ({"batch_size": 0}, ValueError, r"batch_size must .* got 0"),
        ({"batch_size": True}, TypeError, r"batch_size must .* got True"),
        ({"checkpoint_every": 0}, ValueError, r"checkpoint_every must .* got 0"),
        ({"log_every": 0}, ValueError, r"log_every must .* got 0"),
        ({"resume": True}, ValueError, r"out must .* got None"),
        ({"checkpoint_every": 3}, ValueError, r"out must .* got None"),
    ],
)
def test_wrong_arguments_are_named(options, error, words):
    with pytest.raises(error, match=words):
        fit(tiny_run.trainer(), **options)


def test_evaluate_checks_its_batch_size_and_the_data():
    trainer = tiny_run.trainer()
    with pytest.raises(ValueError, match=r"batch_size must .* got 0"):
        trainer.evaluate(tiny_run.data(), batch_size=0)
    with pytest.raises(ValueError, match=r"batch_size must .* got -2"):
        trainer.predict(np.zeros((1, 4, 4, 1), np.float32), batch_size=-2)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_refuses_to_overwrite_a_run(tmp_path):
    fit(tiny_run.trainer(), tmp_path, epochs=1)
    before = contents(tmp_path)
    with pytest.raises(
        ValueError, match=r"out must .* got .* with checkpoint.json; continue it with --resume"
    ):
        fit(tiny_run.trainer(), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json"])
def test_refuses_to_overwrite_files_of_the_same_name(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"out must .* got .* with {name}"):
        fit(tiny_run.trainer(), tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_out_must_be_a_directory(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="is a file or lies in one"):
            fit(tiny_run.trainer(), out)


def test_other_files_in_the_directory_are_left_alone(tmp_path):
    for name in ("notes.txt", "checkpoint-1.safetensors", "model.safetensors"):
        (tmp_path / name).write_text("mine")
    fit(tiny_run.trainer(), tmp_path)
    assert all((tmp_path / n).read_text() == "mine" for n in ("notes.txt", "checkpoint-1.safetensors"))
    assert sorted(p.name.split("-")[0] for p in tmp_path.iterdir()) == sorted(
        [
            "checkpoint",
            "checkpoint",
            "checkpoint.json",
            "metrics.jsonl",
            "model.safetensors",
            "notes.txt",
            "summary.json",
        ]
    )


def test_summary_of_nothing_is_whole():
    assert History().summary()["train_seconds"] == 0
