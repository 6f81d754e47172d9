"""`fp16engine translate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..experiments.report.labels import epochs
from . import options
from .output import plain, print_json, print_table
from .parser import add_command

if TYPE_CHECKING:
    from ..data.tokenizer import Tokenizer
    from ..translation import TranslationTrainer


def add(commands: Any) -> None:
    """Add the command and its three actions."""
    parser = add_command(
        commands,
        "translate",
        "a Transformer on parallel text, judged by BLEU",
        "Train encoder-decoder Transformers on text files under several precisions, measure their BLEU, and\n"
        "translate with them. Needs the extra `text`: pip install 'fp16engine[text]'.",
        "  fp16engine translate train --data-dir ~/multi30k --precision fp32,fp16 --out runs/de-en\n"
        "  fp16engine translate evaluate runs/de-en/fp16 --data-dir ~/multi30k --beam 8\n"
        "  echo 'Ein Hund läuft.' | fp16engine translate text runs/de-en/fp16",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_train(actions)
    _add_evaluate(actions)
    _add_text(actions)


def _add_corpus(parser: argparse.ArgumentParser, source: str | None, target: str | None) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data-dir",
        required=True,
        metavar="DIR",
        help="train.de, train.en, val.*, test.* (or test_NAME.*), plain or .gz, a sentence a line",
    )
    usual = "those of the run" if source is None else f"{source}, {target}"
    group.add_argument(
        "--source", default=source, metavar="LANG", help="ending of the files to translate from"
    )
    group.add_argument(
        "--target", default=target, metavar="LANG", help=f"and of their translations (default: {usual})"
    )
    group.add_argument(
        "--limit", type=options.whole(1), metavar="N", help="the first N pairs of each part only"
    )


def _add_beam(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam",
        type=options.whole(1),
        default=4,
        metavar="N",
        help="width of the search (default: 4; 1: greedy)",
    )


def _add_train(actions: Any) -> None:
    parser = add_command(
        actions,
        "train",
        "train under one or more precisions and measure BLEU",
        "Train the same network, weights and batch order under every precision, translate the test part and\n"
        "print BLEU with sacrebleu's signature. Stop it at any time; --resume continues bit for bit.",
        "  fp16engine translate train --data-dir ~/multi30k --precision fp32,fp16,mp --out runs/de-en",
    )
    _add_corpus(parser, "de", "en")
    parser.add_argument(
        "--precision",
        type=options.precisions,
        default=["fp16"],
        metavar="LIST",
        help="comma-separated (default: fp16)",
    )
    add_training(parser)
    _add_beam(parser)
    options.add_device(parser)
    options.add_output(parser, folder=True)
    options.add_log(parser)
    parser.set_defaults(run=run_train)


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options of the network and its training."""
    group = parser.add_argument_group("network and training")
    group.add_argument(
        "--model",
        default="transformer-small",
        metavar="NAME",
        help="transformer-base, transformer-small, transformer-tiny (default: transformer-small)",
    )
    for flag, kind, default, text in (
        ("--epochs", options.whole(1), 10, "passes over the training pairs"),
        ("--batch-tokens", options.whole(1), 1024, "padded tokens of a side in a batch"),
        ("--lr", options.number(True), 1e-3, "highest learning rate, reached after --warmup steps"),
        ("--warmup", options.whole(1), 400, "steps; then the rate falls with the root of the step"),
        ("--vocabulary", options.whole(1), 4000, "tokens of both languages together"),
        ("--longest", options.whole(1), 60, "tokens of a training sentence; longer ones are left out"),
        ("--label-smoothing", options.number(False), 0.1, "share of a label spread over all tokens"),
        ("--seed", options.whole(0), 0, "of initial weights, data order and dropout"),
    ):
        group.add_argument(
            flag, type=kind, default=default, metavar="X", help=f"{text} (default: {default:g})"
        )
    group.add_argument(
        "--dropout", type=options.number(False), metavar="X", help="default: the network's own"
    )


def _add_evaluate(actions: Any) -> None:
    parser = add_command(
        actions,
        "evaluate",
        "BLEU of a trained network",
        "Translate the test part of a corpus with the network of a run and measure BLEU.",
        "  fp16engine translate evaluate runs/de-en/fp16 --data-dir ~/multi30k --beam 1",
    )
    parser.add_argument("folder", metavar="RUN", help="the folder of one precision's run")
    _add_corpus(parser, None, None)
    _add_beam(parser)
    options.add_device(parser)
    options.add_output(parser, folder=False)
    parser.set_defaults(run=run_evaluate)


def _add_text(actions: Any) -> None:
    parser = add_command(
        actions,
        "text",
        "translate standard input, line by line",
        "Translate every line of standard input (UTF-8) with the network of a run.",
        "  fp16engine translate text runs/de-en/fp16 < german.txt > english.txt",
    )
    parser.add_argument("folder", metavar="RUN", help="the folder of one precision's run")
    _add_beam(parser)
    options.add_device(parser)
    parser.set_defaults(run=run_text)


def run_train(arguments: argparse.Namespace) -> int:
    """Carry `train` out."""
    from ..experiments import translation

    text = _corpus(arguments, arguments.source, arguments.target)
    out = options.results_folder(arguments, f"translate-{text.source}-{text.target}")
    options.use_threads(arguments)
    summary = translation.run(
        text,
        settings(arguments, arguments.precision),
        out,
        resume=arguments.resume,
        progress=False if arguments.json else None,
        checkpoint_every=arguments.checkpoint_every,
        log_every=arguments.log_every,
        log=arguments.log,
    )
    if arguments.json:
        print_json(summary)
    else:
        print_summary(summary, out)
    return 1 if any(run["status"] == "failed" for run in summary["runs"]) else 0


def settings(arguments: argparse.Namespace, precisions: list[str]) -> Any:
    """Return the experiment's settings that the options name."""
    from ..experiments.translation import Settings

    names = ("model", "epochs", "lr", "warmup", "vocabulary", "longest", "dropout", "label_smoothing")
    given = {name: getattr(arguments, name) for name in (*names, "beam", "seed", "device")}
    return Settings(precisions=tuple(precisions), tokens=arguments.batch_tokens, **given)


def print_summary(summary: dict[str, Any], out: Path) -> None:
    """Print the table of BLEU, losses and times."""
    paper = summary["paper"]
    rows = [
        (
            run["precision"],
            plain(run["bleu"], 2),
            plain(paper.get(run["precision"]), 2),
            plain(run.get("val_loss"), 3),
            plain(run["train_seconds"]),
            plain(run.get("tokens_per_second")),
        )
        for run in summary["runs"]
    ]
    pairs, chosen = summary["pairs"], summary["settings"]
    print_table(
        f"{chosen['model']} on {summary['data']}, {pairs['train']:,} pairs, {epochs(chosen['epochs'])}",
        ("precision", "BLEU", "paper's (IWSLT'14)", "val loss", "seconds", "tokens/s"),
        rows,
    )
    for run in summary["runs"]:
        if run["error"]:
            print(f"Failed: {run['precision']}: {run['error']}")
    signature = next((run["bleu_signature"] for run in summary["runs"] if run["bleu_signature"]), None)
    if signature:
        print(f"\nBLEU of {pairs['test']:,} sentences, {signature}")
    print(f"Results: {out}")


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Carry `evaluate` out."""
    from ..experiments.translation import translations
    from ..translation.bleu import bleu

    trainer, tokenizer, record = _load(arguments)
    text = _corpus(arguments, arguments.source or record["source"], arguments.target or record["target"])
    said = translations(trainer, tokenizer, text.test.source, arguments.beam)
    score = bleu(said, text.test.target)
    result = {
        "model": record["model"],
        "precision": trainer.precision.name,
        "data": f"{text.name} {text.source}-{text.target}",
        "sentences": len(said),
        "beam": arguments.beam,
        "bleu": score.score,
        "bleu_signature": score.signature,
    }
    if arguments.json:
        print_json(result)
    else:
        rows = [
            (key.replace("_", " "), f"{value:.2f}" if key == "bleu" else value)
            for key, value in result.items()
        ]
        print_table("", ("", ""), rows)
    return 0


def run_text(arguments: argparse.Namespace) -> int:
    """Carry `text` out."""
    from ..experiments.translation import translations

    trainer, tokenizer, _ = _load(arguments)
    try:
        lines = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"standard input must be UTF-8 text, got another byte at offset {error.start}"
        ) from None
    said = iter(translations(trainer, tokenizer, [line for line in lines if line.strip()], arguments.beam))
    for line in lines:
        print(next(said) if line.strip() else "")
    return 0


def _corpus(arguments: argparse.Namespace, source: str, target: str) -> Any:
    from ..data import parallel_text

    text = parallel_text(arguments.data_dir, source, target)
    return text if arguments.limit is None else text.limit(arguments.limit)


def _load(arguments: argparse.Namespace) -> tuple[TranslationTrainer, Tokenizer, dict[str, Any]]:
    """The trainer, tokenizer and record of a finished run."""
    from ..data.tokenizer import Tokenizer
    from ..experiments.runs.results_dir import read_json
    from ..experiments.translation import RUN, TOKENIZER
    from ..models.transformer import Transformer
    from ..train import Checkpoint
    from ..translation import TranslationTrainer

    folder = Path(arguments.folder)
    checkpoint = Checkpoint.load(folder)
    tokenizer, record = Tokenizer.load(folder / TOKENIZER), read_json(folder / RUN)
    options.use_threads(arguments)
    model = checkpoint.create_model(arguments.device)
    if not isinstance(model, Transformer):
        raise ValueError(f"{folder} must hold a trained Transformer, got a {type(model).__name__}")
    trainer = TranslationTrainer(model, checkpoint.precision, device=arguments.device)
    # a precision that plans its last epochs is evaluated in the format of the last one trained
    trainer.begin_epoch(max(0, checkpoint.epoch - 1), checkpoint.settings["epochs"])
    return trainer, tokenizer, record
