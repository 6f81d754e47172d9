"""Tests of the command line: status, one-sentence errors, JSON, what is written where."""

import argparse
import inspect
import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fp16engine as fe
from fp16engine.cli import main
from fp16engine.cli.commands import build
from fp16engine.cli.defaults import DEFAULTS
from fp16engine.cli.encoding import any_terminal
from fp16engine.cli.options import (
    AUGMENTATIONS,
    DATA,
    LOGGERS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    results_folder,
)
from fp16engine.experiments.report.labels import NOTHING
from fp16engine.optim import BY_NAME
from fp16engine.reporting import loggers
from fp16engine.train import schedule

TINY = ["--device", "reference", "--limit", "16", "--model", "dnn", "--epochs", "1", "--batch-size", "8"]


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fails(capsys, *argv):
    """Run a command line that is wrong and return its sentence; nothing else may be printed or written."""
    before = sorted(os.listdir())
    status = main([str(part) for part in argv])
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert sorted(os.listdir()) == before
    return lines[0]


def document(capsys):
    """Return the JSON document on standard output: the whole of it."""
    return json.loads(capsys.readouterr().out)


def test_weights_take_updates_in_the_form_asked_for(capsys):
    assert main(["train", *TINY, "--update", "master32", "--json", "--out", "out"]) == 0
    assert document(capsys)["precision"] == "fp16+master32"


def test_statistics_are_of_the_form_asked_for(capsys):
    for form, name in (("native", "fp16"), ("plain", "fp16+plain-statistics")):
        assert main(["train", *TINY, "--statistics", form, "--json", "--out", form]) == 0
        assert document(capsys)["precision"] == name
        assert fe.Checkpoint.load(form).precision.statistics_form == form


def test_convolutions_are_by_the_algorithm_asked_for(capsys):
    for algorithm, name in (("direct", "fp16+direct"), ("winograd", "fp16")):
        assert main(["train", *TINY, "--convolution", algorithm, "--json", "--out", algorithm]) == 0
        assert document(capsys)["precision"] == name
        assert fe.Checkpoint.load(algorithm).precision.convolution == algorithm


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train", "--lr", "nan"], r"--lr must .* got nan"),
        (["train", "--lr", "0"], r"--lr must .* got 0.0"),
        (["train", "--lr", "fast"], r"--lr must .* got 'fast'"),
        (["train", "--batch-size", "0"], r"--batch-size must .* got 0"),
        (["train", "--epochs", "-1"], r"--epochs must .* got -1"),
        (["train", "--limit", "0"], r"--limit must .* got 0"),
        (["train", "--image-size", "0"], r"--image-size must .* got 0"),
        (["train", "--image-size", "8"], "image_size must be left out with digits"),
        (["train", "--test-share", "1"], r"--test-share must be .* > 0 and < 1, got 1.0"),
        (["train", "--test-share", "few"], r"--test-share must .* got 'few'"),
        (["train", "--momentum", "inf"], r"--momentum must .* got inf"),
        (["train", "--momentum", "0.5", "--optimizer", "adam"], r"--momentum must .* got 0.5"),
        (
            ["train", "--data", "digits", "--data-dir", "."],
            r"root \(--data-dir\) must be left out with digits",
        ),
        (["train", "--betas", "0.9"], r"--betas must be two numbers .* got '0.9'"),
        (["train", "--betas", "0.9,1"], r"--betas must be two numbers .* got '0.9,1'"),
        (["train", "--betas", "0.9,0.99"], r"betas must .* sgd; adam and adamw have them, got"),
        (["train", "--warmup", "-1"], r"--warmup must .* got -1"),
        (["train", "--schedule", "inverse-sqrt"], r"warmup must be at least 1 step .* got 0"),
        (["compare", "--max-bad-steps", "0"], r"--max-bad-steps must .* got 0"),
        (["compare", "--log-every", "0"], r"--log-every must .* got 0"),
        (["train", "--precision", "fp17"], r"--precision must .* got 'fp17'"),
        (
            ["train", "--precision", "hbfp1"],
            r"--precision: mantissa must be an integer from 2 to 16, got 1 \(see",
        ),
        (
            ["train", "--precision", "fp16-chunk7"],
            r"must be .* 8, 16, .* 256, got 'fp16-chunk7' \(",
        ),
        (["train", "--precision", "tf32"], "precision: 'tf32' needs the tensor cores"),
        (["compare", "--precision", "fp16,fp16"], r"--precision must .* got 'fp16,fp16'"),
        (["compare", "--precision", "fp16,"], r"--precision must .* got ''"),
        (["train", "--data", "imagenet"], r"--data must .* got 'imagenet'"),
        (["train", "--model", "resnet21"], r"--model must .* got 'resnet21'"),
        (["train", "--optimizer", "lion"], r"--optimizer must .* got 'lion'"),
        (["train", "--data", "mnist"], "--data-dir"),
        (["train", "--data", "mnist", "--data-dir", "nowhere"], r"--data-dir must .* got nowhere"),
        (
            [
                "train",
                "--eps",
                "1e-9",
                "--state",
                "plain",
                "--optimizer",
                "adam",
                "--limit",
                "8",
                "--device",
                "reference",
            ],
            "eps",
        ),
        (["train", "--device", "tpu"], r"device must .* got 'tpu'"),
        (["train", "--device", "cuda"], "CUDA"),
        (["train", "--resume"], r"--resume must .* got none"),
        (["train", "--resume", "--out", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "nowhere"),
        (["bench", "step", "--model", "lenet"], r"--model must .* got 'lenet'"),
        (["bench", "step", "--peer", "jax"], r"--peer must .* got 'jax'"),
        (["bench", "kernels", "--sizes", "tiny,huge"], r"--sizes must .* got 'huge'"),
        (["bench", "kernels", "--sizes", "tiny", "--family", "sorting"], r"families must .* got 'sorting'"),
        (["fly"], "invalid choice: 'fly'"),
        (["comprae"], r"did you mean 'compare'\?"),
        (["bench", "kernls"], r"did you mean 'kernels'\?"),
        (["train", "--colour"], r"unrecognized arguments: --colour.*\(see fp16engine train --help\)"),
        (["bench", "step", "--colour"], r"--colour.*\(see fp16engine bench step --help\)"),
        (["train", "--out", "/proc/x"], "out must be a folder that can be written, got /proc/x"),
        (["compare", "--out", "/proc/x"], "out must be a folder that can be written, got /proc/x"),
        (["bench", "step", "--out", "/proc/x/y"], "out must be a folder that can be written, got /proc/x"),
        (["train", "--out", "a" * 300], "--out must be a path that the file system takes, got 'aaa"),
        (["bench", "step", "--out", "a" * 300], "--out must be a path that the file system takes, got 'aaa"),
        (["train", "--presicion", "fp16"], r"did you mean '--precision'\?"),
        (["train", "--model", "resnet2O"], r"did you mean 'resnet20'\?"),
        (["train", "--data", "minst"], r"did you mean 'mnist'\?"),
        (["train", "--optimizer", "adm"], r"did you mean 'adam'\?"),
        (["train", "--precision", "fp16-strikt"], r"did you mean 'fp16-strict'\?"),
        (["compare", "--precision", "float16,fp32"], r"did you mean 'fp16'\?"),
        (["train", "--precision", "mixed"], r"did you mean 'mp'\?"),
        (["train", "--precision", "bfloat16"], r"did you mean 'bf16'\?"),
        (["reproduce", "tabel2"], r"did you mean 'table2'\?"),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(capsys, argv, words):
    assert re.search(words, fails(capsys, *argv))


def test_help_names_every_command_and_option(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("doctor", "train", "compare", "evaluate", "bench"))
    assert main(["compare", "--help"]) == 0
    text = capsys.readouterr().out
    shared = (
        "model data data-dir precision epochs batch-size lr momentum optimizer eps seed device limit out json"
    )
    assert all(f"--{name} " in text or f"--{name}\n" in text for name in shared.split())
    assert "examples:" in text and "defaults:" in text


def test_no_command_prints_the_help(capsys):
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert alone == capsys.readouterr().out
    assert all(word in alone for word in ("cuda", "hbfp<m>", "booster", "130"))


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("command", ["", "train", "compare", "reproduce", "preflight", "translate"])
def test_help_wraps_between_words(capsys, monkeypatch, command, width):
    monkeypatch.setenv("COLUMNS", "200")
    main([*command.split(), "--help"])
    words = capsys.readouterr().out.replace("\\\n", " ").split()
    monkeypatch.setenv("COLUMNS", str(width))
    main([*command.split(), "--help"])
    text = capsys.readouterr().out
    _, rest = text.split("\n\n", 1)
    assert all(len(line) <= width for line in rest.splitlines() if not line.startswith("  fp16engine"))
    assert sorted(text.replace("\\\n", " ").split()) == sorted(words)


@pytest.mark.parametrize("argv", [["doctor"], ["train", *TINY], ["bench", "kernels"], ["--help"]])
def test_ctrl_c_is_status_130_wherever_it_comes(capsys, monkeypatch, argv):
    def stopped(*_):
        raise KeyboardInterrupt

    for module in ("doctor.run", "options.load_data", "options.use_threads", "commands.build"):
        if argv == ["--help"] or module != "commands.build":
            monkeypatch.setattr(f"fp16engine.cli.{module}", stopped)
    assert main(argv) == 130
    assert capsys.readouterr().err == "fp16engine: stopped\n"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert fe.__version__ in capsys.readouterr().out


def test_names_on_the_command_line_are_those_of_the_engine():
    assert tuple(fe.data.names()) == DATA == tuple(DEFAULTS)
    assert tuple(BY_NAME) == OPTIMIZERS
    assert ("none", *fe.data.Augmentation.names()) == AUGMENTATIONS
    assert loggers.NAMES == LOGGERS
    assert schedule.NAMES == SCHEDULES
    named = {re.sub("<.>", "8", name) for name in PRECISIONS.split(", ")}
    assert named == {*fe.Precision.names(), "fp16-chunk8", "hbfp8", "booster", "bf16", "bf16-sr", "tf32"}
    assert {given.model for given in DEFAULTS.values()} <= set(fe.models.names())


def test_arguments_of_the_trainer_are_options():
    """All that are no objects of Python."""
    objects = {"self", "model", "dataset", "loss", "callbacks", "refinements", "monitor", "progress", "stop"}
    own = {"capture"}  # chosen by the device
    for command, left_out in (
        ("train", set()),
        ("compare", {"distributed", "sync_norm", "reduce", "tensorboard"}),
    ):
        options = vars(build().parse_args([command])).keys()
        for function in (fe.Trainer.__init__, fe.Trainer.fit):
            names = inspect.signature(function).parameters.keys() - objects - own - left_out
            assert names - options == set(), command


def test_the_command_line_trains_as_the_trainer_does(capsys):
    options = "--optimizer adam --betas 0.5,0.75 --schedule inverse-sqrt --warmup 3 --log-every 1"
    assert main(["train", *TINY, *options.split(), "--max-bad-steps", "7", "--out", "run", "--json"]) == 0
    capsys.readouterr()
    saved = fe.Checkpoint.load("run").settings
    assert (saved["betas"], saved["schedule"], saved["warmup"]) == ([0.5, 0.75], "inverse-sqrt", 3)
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "step"] == [1, 2]


def test_train_sends_its_rows_to_loggers(capsys, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    for number, option in enumerate((["--log", "tensorboard"], ["--tensorboard"])):
        assert main(["train", *TINY, *option, "--out", f"run{number}"]) == 0
        assert list((tmp_path / f"run{number}" / "tensorboard").iterdir())
    assert main(["train", *TINY, "--log", "tensorbord"]) == 2
    assert "must be" in capsys.readouterr().err


def test_train_writes_summary_and_prints_one_document(capsys):
    assert main(["train", *TINY, "--out", "run", "--json"]) == 0
    summary = document(capsys)
    with open("run/summary.json") as file:
        assert json.load(file) == summary
    keys = "precision test_accuracy train_accuracy train_seconds images_per_second peak_memory_bytes seed"
    assert all(summary[key] is not None for key in [*keys.split(), "nonfinite_steps"])
    assert summary["audit"]["float32_tensors"] == 0
    assert {"checkpoint.json", "metrics.jsonl", "summary.json"} <= set(os.listdir("run"))


@pytest.mark.slow
def test_augmentation_is_in_the_summary_of_train_and_compare(capsys):
    study = fe.data.Augmentation.get("study").to_dict()
    smoothed = ["--augment", "study", "--label-smoothing", "0.1"]
    assert main(["train", *TINY, *smoothed, "--out", "run", "--json"]) == 0
    summary = document(capsys)
    assert (summary["augment"], summary["label_smoothing"]) == (study, 0.1)
    assert (
        main(["compare", *TINY, "--precision", "fp16", "--augment", "study", "--out", "both", "--json"]) == 0
    )
    assert document(capsys)["settings"]["augment"] == study


def test_train_refuses_a_folder_with_results_and_resumes_it(capsys):
    assert main(["train", *TINY, "--out", "run"]) == 0
    capsys.readouterr()
    assert re.search("out must .* got run with", fails(capsys, "train", *TINY, "--out", "run"))
    same = ["--schedule", "constant", "--out", "run2"]
    assert main(["train", *TINY, *same]) == 0
    assert main(["train", *TINY, *same, "--resume", "--epochs", "2"]) == 0
    with open("run2/summary.json") as file:
        assert json.load(file)["epochs"] == 2
    capsys.readouterr()
    other = fails(capsys, "train", *TINY, *same, "--resume", "--precision", "fp32")
    assert "of this run, got another" in other and "fp32" in other


def test_train_without_out_takes_the_next_free_folder(capsys):
    for _ in range(2):
        assert main(["train", *TINY]) == 0
    assert sorted(os.listdir("runs")) == ["train-digits-dnn-fp16", "train-digits-dnn-fp16-2"]


def test_default_folder_with_resume_is_the_last_one():
    arguments = argparse.Namespace(out=None, resume=True)
    for name in ("x", "x-2", "x-10", "x-y"):
        os.makedirs(f"runs/{name}")
    assert str(results_folder(arguments, "x")) == os.path.join("runs", "x-10")
    arguments.resume = False
    assert str(results_folder(arguments, "x")) == os.path.join("runs", "x-11")


def test_evaluate_gives_the_accuracy_of_the_run(capsys):
    assert main(["train", *TINY, "--out", "run", "--json"]) == 0
    summary = document(capsys)
    assert main(["evaluate", "run", "--device", "reference", "--limit", "16", "--json"]) == 0
    result = document(capsys)
    assert result["test_accuracy"] == summary["test_accuracy"]
    assert (result["precision"], result["data"], result["test_images"], result["epoch"]) == (
        "fp16",
        "digits",
        16,
        1,
    )
    assert main(["evaluate", "run", "--device", "reference"]) == 0
    assert "test accuracy" in capsys.readouterr().out


def folder_of_images(root, mode):
    image = pytest.importorskip("PIL.Image")
    shape = (8, 8) if mode == "L" else (8, 8, 3)
    generator = np.random.Generator(np.random.Philox(1))
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(2):
                image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(folder / f"{i}.png")
    return root


def test_evaluate_on_data_of_another_shape(capsys, tmp_path):
    assert main(["train", *TINY, "--out", "run"]) == 0
    folder = folder_of_images(tmp_path / "colour", "RGB")
    capsys.readouterr()
    argv = ["evaluate", "run", "--device", "reference", "--data", "image_folder", "--data-dir", str(folder)]
    assert main(argv) == 2
    assert "'colour' must have 1-channel images as the model takes, got 3-channel" in capsys.readouterr().err


def test_train_on_a_folder_of_images(capsys, tmp_path):
    folder = folder_of_images(tmp_path / "own", "L")
    own = ["--device", "reference", "--model", "dnn", "--epochs", "1"]
    assert (
        main(["train", "--data", "image_folder", "--data-dir", str(folder), *own, "--out", "run", "--json"])
        == 0
    )
    assert document(capsys)["data"]


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_checkpoint(capsys, tmp_path, damage):
    assert main(["train", *TINY, "--out", "run"]) == 0
    capsys.readouterr()
    path = next((tmp_path / "run").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-5]) if damage == "truncated" else path.unlink()
    assert path.name in fails(capsys, "evaluate", "run", "--device", "reference")
    assert path.name in fails(capsys, "train", *TINY, "--out", "run", "--resume")


@pytest.mark.slow
def test_compare_prints_one_document_and_status_0(capsys):
    assert main(["compare", *TINY, "--precision", "fp16,fp32", "--out", "both", "--json"]) == 0
    summary = document(capsys)
    assert [run["precision"] for run in summary["runs"]] == ["fp16", "fp32"]
    assert summary["tolerance"]["guaranteed_share"] <= summary["tolerance"]["agreement"]
    assert summary["settings"]["schedule"] == "cosine"
    assert re.search("out must .* got both with", fails(capsys, "compare", *TINY, "--out", "both"))


@pytest.mark.slow
def test_compare_for_people(capsys):
    assert main(["compare", *TINY, "--precision", "fp16,fp32", "--out", "both"]) == 0
    text = capsys.readouterr().out
    for words in ("precision", "fp16", "images/s", "must agree", os.path.join("both", "report.html")):
        assert words in " ".join(text.split())


@pytest.mark.slow
def test_compare_with_a_failed_run_is_status_1(capsys, monkeypatch):
    step = fe.Trainer.train_batch

    def failing(self, *args):
        if self.precision.name == "fp16" and self.step_count == 1:
            raise fe.NonFiniteError("the gradient is not finite")
        return step(self, *args)

    monkeypatch.setattr(fe.Trainer, "train_batch", failing)
    assert main(["compare", *TINY, "--precision", "fp16,fp32", "--out", "both", "--json"]) == 1
    assert [run["status"] for run in document(capsys)["runs"]] == ["failed", "finished"]


def test_a_failing_run_is_one_sentence_and_status_1(capsys, monkeypatch):
    def failing(self, *args, **options):
        raise fe.NonFiniteError("50 steps in a row were not applied")

    monkeypatch.setattr(fe.Trainer, "fit", failing)
    assert main(["train", *TINY, "--out", "run"]) == 1
    assert capsys.readouterr().err == "fp16engine: 50 steps in a row were not applied\n"


def test_training_that_applies_almost_no_step_is_status_1(capsys):
    wild = [*TINY, "--lr", "1e30", "--epochs", "2"]
    assert main(["train", *wild, "--out", "run", "--json"]) == 1
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert (summary["status"], summary["test_accuracy"], summary["train_accuracy"]) == ("failed", None, None)
    last = printed.err.strip().splitlines()[-1]
    assert last.startswith("fp16engine: the run failed: the network's outputs are not finite and only ")
    assert main(["evaluate", "run", "--device", "reference", "--limit", "16", "--json"]) == 1
    printed = capsys.readouterr()
    scores = json.loads(printed.out)
    assert (scores["test_accuracy"], scores["test_loss"]) == (None, None)
    assert printed.err.count("\n") == 1
    assert "the network's outputs are not finite; lower the learning rate" in printed.err


@pytest.mark.slow
def test_a_comparison_of_networks_of_nan_has_no_accuracy_and_status_1(capsys):
    wild = ["--lr", "1e30", "--epochs", "2", "--out", "out"]
    assert main(["compare", *TINY, *wild]) == 1
    text = capsys.readouterr().out
    assert "%" not in text
    assert text.count("the network's outputs are not finite") == 3
    assert f"δ {NOTHING}, Γ {NOTHING}: the fp32 run failed" in text
    with open("out/summary.json") as file:
        summary = json.load(file)
    assert summary["tolerance"] is None
    assert {run["status"] for run in summary["runs"]} == {"failed"}
    assert {run["test_accuracy"] for run in summary["runs"]} == {None}
    with open("out/report.html", encoding="utf-8") as file:
        page = file.read()
    assert "outputs are not finite" in page
    assert "per epoch" not in page  # no plot without a point


def test_debug_adds_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("FP16ENGINE_DEBUG", "1")
    assert main(["evaluate", "nowhere"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_warnings_are_sentences(capsys):
    argv = ["train", *TINY, "--optimizer", "adam", "--eps", "1e-7", "--state", "plain", "--out", "run"]
    assert main(argv) == 1  # with such an eps the weights become NaN at the first step
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == 1
    assert lines[0].startswith("fp16engine: warning: eps 1e-07")


def test_doctor(capsys):
    status = main(["doctor", "--json"])
    found = document(capsys)
    assert status == (0 if found["ok"] else 1)
    assert found["version"] == fe.__version__
    assert found["packages"]["numpy"] == np.__version__
    if "cpu" in fe.devices():
        assert found["self_test"]["passed"]
        assert found["machine"]["isa"]
    assert main(["doctor"]) == status
    text = capsys.readouterr().out
    assert all(word in text for word in ("processor", "CPU backend", "cuBLAS", "cuDNN", "Ready to train on"))


def test_doctor_without_the_compiled_module(capsys, monkeypatch):
    from fp16engine import backend, doctor

    def missing(device):
        raise fe.BackendUnavailable("the compiled module is missing, build it with `pip install .`")

    monkeypatch.setattr(backend, "get", missing)
    found = doctor.report()
    assert not found["ok"] and not found["cpu_backend"]["available"]
    assert any("pip install ." in line for line in found["advice"])
    assert main(["doctor"]) == 1
    assert "not available" in capsys.readouterr().out


@pytest.mark.slow
def test_bench_step(capsys):
    argv = [
        "bench",
        "step",
        "--model",
        "dnn",
        "--batch-size",
        "4",
        "--image-size",
        "8",
        "--device",
        "reference",
    ]
    argv += ["--rounds", "1", "--seconds", "0.001", "--precision", "fp16,fp32"]
    assert main([*argv, "--json", "--out", "result.json"]) == 0
    result = document(capsys)
    with open("result.json") as file:
        assert json.load(file) == result
    assert "got result.json, which exists" in fails(capsys, *argv, "--out", "result.json")
    assert "--out" in fails(capsys, *argv, "--out", "")
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert all(
        words in text for words in ("images/s", "Time by operation", "Time by layer", "Peak memory of fp16")
    )


@pytest.mark.slow
def test_bench_kernels(capsys):
    argv = ["bench", "kernels", "--sizes", "tiny", "--family", "softmax,cast", "--device", "reference"]
    argv += ["--seconds", "0.0001"]
    assert main([*argv, "--json", "--out", "kernels.json"]) == 0
    result = document(capsys)
    with open("kernels.json") as file:
        assert json.load(file) == result
    assert len(result["kernels"]) == 4
    assert "got kernels.json, which exists" in fails(capsys, *argv, "--out", "kernels.json")
    assert "--out" in fails(capsys, *argv, "--out", "")
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert all(words in text for words in ("Copy, tiny", "softmax_backward", "of copy", "of floor"))


CUT = """
import os, signal, small_dnn, sys
import fp16engine as fe
from fp16engine.cli import main

small_dnn.module.HIDDEN = small_dnn.UNITS
step = fe.Trainer.train_batch

def stopping(self, *arguments):
    if self.step_count == 20:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, *arguments)

fe.Trainer.train_batch = stopping
sys.exit(main())
"""


def command(*argv, start=("-m", "fp16engine")):
    return subprocess.Popen(
        [sys.executable, *start, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.slow
def test_ctrl_c_saves_and_resuming_gives_the_uninterrupted_result(tmp_path):
    long = ["--device", "reference", "--limit", "64", "--model", "dnn", "--epochs", "6", "--batch-size", "4"]
    with command("train", *long, "--out", "cut", "--checkpoint-every", "1", start=("-c", CUT)) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in err and "Traceback" not in err
    assert main(["train", *long, "--out", "cut", "--checkpoint-every", "1", "--resume"]) == 0
    assert main(["train", *long, "--out", "whole"]) == 0
    one, other = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("cut", "whole"))
    assert one["test_loss"] == other["test_loss"]


def test_progress_in_a_pipe_is_plain_and_goes_to_standard_error():
    with command("train", *TINY, "--out", "run", "--json") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["epochs"] == 1
    assert "epoch 1/1" in err and "\x1b" not in err


def test_a_closed_pipe_is_no_traceback():
    with command("train", "--help") as process:
        process.stdout.close()
        err = process.stderr.read()
    assert "Traceback" not in err


@pytest.mark.slow
def test_numerics_options_end_in_findings_report_and_status(capsys):
    """A learning rate far too small: the run works, and says what is lost; an input too large ends it."""
    argv = ["train", *TINY, "--monitor-every", "1", "--strict", "--on-nonfinite", "explain", "--json"]
    assert main([*argv, "--epochs", "2", "--lr", "1e-7", "--momentum", "0", "--out", "lost"]) == 0
    summary = document(capsys)
    assert summary["report"] == "report.html" and os.path.exists("lost/report.html")
    assert {finding["problem"] for finding in summary["findings"]} == {"lost updates"}
    assert all("use update='stochastic' or lr >= " in finding["text"] for finding in summary["findings"])
    assert main([*argv, "--lr", "60000", "--epochs", "3", "--out", "broken"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert any(line.startswith("fp16engine: step ") and " pass, layer " in line for line in lines)
    assert any(line.strip().startswith("remedy: ") for line in lines)
    assert os.path.exists("broken/nonfinite.json")


@pytest.mark.slow
def test_compare_takes_them_too(capsys, drawn):
    argv = ["compare", *TINY, "--precision", "fp16", "--monitor-every", "1", "--strict", "--json"]
    assert main([*argv, "--out", "both"]) == 0
    summary = document(capsys)
    assert [run["findings"] for run in summary["runs"]] == [[]]
    assert os.path.exists("both/plots/heat-lost-fp16.png")
    said = fails(capsys, "train", "--on-nonfinite", "pray")
    assert re.search(r"^fp16engine: --on-nonfinite must .* got 'pray' \(see fp16engine train --help\)$", said)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    ("argv", "unbuffered"), [("--version", ""), ("--version", "1"), ("reproduce hbfp-density", "1")]
)
def test_standard_output_that_is_full_is_named(argv, unbuffered):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "fp16engine", *argv.split()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (1, "fp16engine: standard output: No space left on device\n")


@pytest.mark.parametrize("command", [["train"], ["compare"], ["reproduce", "figure3"]])
def test_an_empty_out_is_refused(capsys, command):
    assert main([*command, "--out", ""]) == 2
    text = capsys.readouterr().err
    assert "--out must be a path, got ''" in text


def test_compare_in_a_folder_that_a_run_holds(tmp_path, capsys):
    from fp16engine.reporting.lock import hold

    failed = []

    def second():
        failed.append(main(["compare", "--epochs", "1", "--limit", "40", "--out", str(tmp_path / "out")]))

    with hold(tmp_path / "out"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    text = capsys.readouterr().err
    assert failed == [2] and f"used by process {os.getpid()} on" in text and text.count("\n") == 1


@pytest.mark.slow
def test_no_terminal_and_no_folder_name_costs_the_results(tmp_path):
    if sys.platform != "linux":
        pytest.skip("needs a file system whose names are bytes")
    out = os.path.join(os.fsencode(tmp_path), b"caf\xe9 \xff")
    command: list[str | bytes] = [sys.executable, "-m", "fp16engine", "compare", *TINY]
    command += ["--precision", "fp16,fp32", "--out", out]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert rb"caf\xe9 \xff" in done.stdout and "delta" in done.stdout.decode("ascii")
    for name in (b"summary.json", b"report.html"):
        assert os.path.getsize(os.path.join(out, name))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("ascii", "delta 1.5*10? Gamma cafe \\xff"),
        ("cp1252", "delta 1.5\u00b710? Gamma caf\u00e9 \\xff"),
        ("utf-8", "\u03b4 1.5\u00b710\u2603 \u0393 caf\u00e9 \\xff"),
    ],
)
def test_what_an_encoding_lacks_is_spelled(monkeypatch, encoding, text):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with any_terminal():
        print("\u03b4 1.5\u00b710\u2603 \u0393 caf\u00e9 \udcff", end="", flush=True)
    assert stream.buffer.getvalue().decode(encoding) == text
    assert stream.errors == "strict"
