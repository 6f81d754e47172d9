"""`fp16engine translate` from files to a table, and back from a run's folder."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from fp16engine.cli import main
from fp16engine.experiments import translation_estimate
from fp16engine.translation.bleu import bleu

WORDS = {"Hund": "dog", "Katze": "cat", "Mann": "man", "Frau": "woman", "Kind": "child"}
VERBS = {"läuft": "runs", "schläft": "sleeps", "singt": "sings"}
QUICK = ["--model", "transformer-tiny", "--vocabulary", "300", "--batch-tokens", "120", "--warmup", "10"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen sentences, all of them in every part."""
    root = tmp_path_factory.mktemp("corpus")
    pairs = [(f"Ein {n} {v}.", f"A {m} {w}.") for n, m in WORDS.items() for v, w in VERBS.items()]
    for part in ("train", "val", "test"):
        (root / f"{part}.de").write_text("".join(f"{a}\n" for a, _ in pairs))
        (root / f"{part}.en").write_text("".join(f"{b}\n" for _, b in pairs))
    return root


def _train(corpus: Path, out: Path, *options: str) -> list[str]:
    return ["translate", "train", "--data-dir", str(corpus), "--out", str(out), *QUICK, "--json", *options]


@pytest.mark.slow
def test_sends_its_rows_to_loggers(corpus: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    options = ["--epochs", "2", "--beam", "1", "--log", "tensorboard", "--log-every", "1"]
    assert main(_train(corpus, tmp_path / "run", *options)) == 0
    folder = tmp_path / "run" / "fp16"
    assert list((folder / "tensorboard").iterdir())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "step"] == [1, 2]
    assert main(_train(corpus, tmp_path / "no", "--log", "tensorbord")) == 2


@pytest.mark.slow
def test_trains_stops_continues_translates(
    corpus: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, drawn: None
) -> None:
    out = tmp_path / "run"
    options = ["--precision", "fp32,fp16", "--epochs", "50", "--lr", "0.003", "--dropout", "0"]
    assert main(_train(corpus, out, *options)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [run["precision"] for run in summary["runs"]] == ["fp32", "fp16"]
    for run in summary["runs"]:
        assert run["bleu"] > 90 and run["bleu_signature"].startswith("nrefs:1|case:mixed")
        assert run["status"] == "finished" and len(run["history"]) == 50 and run["val_loss"] < 0.3
    assert summary["paper"] == {"fp32": 34.77}
    assert summary["pairs"] == {"train": 15, "val": 15, "test": 15}
    assert (out / "loss.png").exists() == (summary["curves"] is not None)
    # everything is done already, and the same
    assert main(_train(corpus, out, *options, "--resume")) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == summary["runs"]
    evaluate = ["translate", "evaluate", str(out / "fp16"), "--data-dir", str(corpus), "--json"]
    assert main(evaluate) == 0
    assert json.loads(capsys.readouterr().out)["bleu"] == summary["runs"][1]["bleu"]
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO("Eine Frau läuft.\n\nEin\u2028Hund".encode()))
    )
    assert main(["translate", "text", str(out / "fp16"), "--beam", "2"]) == 0
    first, blank, third = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert first and third and not blank
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff")))
    assert main(["translate", "text", str(out / "fp16")]) == 2
    assert "standard input must be UTF-8 text, got another byte at offset 1" in capsys.readouterr().err
    said = (out / "fp32" / "translations.txt").read_text().splitlines()
    assert len(said) == 15 and bleu(said, (corpus / "test.en").read_text().splitlines()).score > 90


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data-dir", "nowhere"], r"root \(--data-dir\) must .* got nowhere"),
        (["--precision", "fp64"], r"--precision must .* got 'fp64'"),
        (["--vocabulary", "10"], r"vocabulary must .* got 10"),
        (["--model", "resnet20"], r"model must .* got 'resnet20'"),
        (["--longest", "1"], r"pairs must .* got none"),
        (["--source", "fr"], r"must hold train.fr"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    options: list[str], words: str, corpus: Path, tmp_path: Path, capsys: Any
) -> None:
    assert main(_train(corpus, tmp_path / "run", *options)) == 2
    captured = capsys.readouterr()
    assert re.search(words, captured.err) and captured.out == "" and not (tmp_path / "run").exists()


def test_bleu_is_sacrebleus() -> None:
    """Two of four 1-grams, one of three 2-grams ... of the textbook example, by hand."""
    assert bleu(["a b c d e"], ["a b c d e"]).score == 100
    score = bleu(["the cat sat on the mat today"], ["the cat sat on a mat today"]).score
    by_hand = 100 * (6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** 0.25
    assert abs(score - by_hand) < 1e-6 * by_hand
    with pytest.raises(ValueError, match=r"translations must .* got 1"):
        bleu(["a"], ["a", "b"])


def test_hbfp_table3_asks_before_a_day_of_work(
    corpus: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ["reproduce", "hbfp-table3", "--data-dir", str(corpus), "--out", str(out)]
    command += ["--models", "transformer-tiny", "--precisions", "fp32,hbfp4"]
    assert main([*command, "--dry-run", "--json"]) == 0
    assert [row["seconds"] > 0 for row in json.loads(capsys.readouterr().out)["runs"]] == [True, True]
    monkeypatch.setattr(translation_estimate, "_epoch_seconds", lambda *_: 3600.0)
    assert main([*command, "--dry-run"]) == 0
    assert "In all about 5 days 20 h for 2 runs" in capsys.readouterr().out
    assert main(command) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert "--yes must be given for more than a day of work, got 5 days 20 h" in sentence
    assert "--precisions fp32,hbfp4 --epochs 1 --limit 2000 (about 2 h" in sentence and not out.exists()


@pytest.mark.slow
def test_reproduce_hbfp_table3(corpus: Path, tmp_path: Path, capsys: Any) -> None:
    """In small; a second call takes what is done, and options of images are refused."""
    command = ["reproduce", "hbfp-table3", "--data-dir", str(corpus), "--out", str(tmp_path), "--json"]
    small = ["--models", "transformer-tiny", "--precisions", "fp32", "--epochs", "1", "--batch-size", "300"]
    assert main([*command, *small]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["settings"]["vocabulary"] == 10_000 and summary["settings"]["epochs"] == 1
    assert summary["paper"] == {"fp32": 34.77} and summary["runs"][0]["bleu"] < 10
    assert main([*command, *small]) == 0
    assert json.loads(capsys.readouterr().out) == summary
    for wrong, words in (
        (["--budget", "1h"], r"--budget must not be given with hbfp-table3"),
        (["--seeds", "3"], r"--seeds must .* got 3"),
        (
            ["--models", "transformer-tiny,transformer-small"],
            r"--models must .* got 'transformer-tiny,transformer-small'",
        ),
    ):
        assert main([*command, *wrong]) == 2
        assert re.search(words, capsys.readouterr().err)
