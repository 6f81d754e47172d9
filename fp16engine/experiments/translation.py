"""The translation experiment: one Transformer and one corpus under several precisions, judged by BLEU."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import backend as backends
from ..data import ParallelText
from ..data.encoded import EncodedText
from ..data.tokenizer import Tokenizer
from ..doctor import machine
from ..errors import NonFiniteError
from ..models import transformer
from ..precision import Precision
from ..reporting.files import write_atomically
from ..reporting.history import SUMMARY
from ..reporting.lock import holds_out
from ..reporting.loggers import check_installed, names_of
from ..reporting.metrics import finished_epochs
from ..reporting.progress import Reporter, reporter
from ..train import TrainConfig
from ..train.checkpoint import FILE_NAME as CHECKPOINT
from ..translation import TranslationTrainer
from ..translation.bleu import bleu
from .runs.results_dir import claim, read_run, write_json

TOKENIZER, RUN, TRANSLATIONS, CURVES = "tokenizer.json", "run.json", "translations.txt", "loss"
_SCORE = float | int | None
_RECORD = {
    "precision": str, "status": str, "error": str | None, "bleu": _SCORE, "bleu_signature": str | None,
    "history": list, "train_seconds": _SCORE,
}  # fmt: skip
# Top row: the paper's table 3, IWSLT'14 German to English, Transformer-Base, 70 epochs.
PAPER = {"fp32": 34.77, "hbfp6": 34.47, "hbfp4": 32.64, "booster": 36.08}


@dataclass(frozen=True)
class Settings:
    """What a comparison of translations does; equal settings give equal bits.

    Args:
        model: a name that `models.transformer.create` knows.
        precisions: names of presets.
        epochs: of training.
        tokens: padded tokens of a side in a batch.
        lr: the highest learning rate.
        warmup: steps over which the rate rises to `lr`.
        vocabulary: tokens that are learnt from the training text.
        longest: tokens of the longest sentence that is trained on.
        dropout: probability in [0, 1); None means that of the model's size.
        label_smoothing: in [0, 1].
        beam: hypotheses a sentence.
        seed: of weights, order, dropout and rounding.
        device: "cpu", "cuda", "cuda:1" or "reference".

    >>> Settings(epochs=1).model
    'transformer-small'
    """

    model: str = "transformer-small"
    precisions: tuple[str, ...] = ("fp16",)
    epochs: int = 10
    tokens: int = 1024
    lr: float = 1e-3
    warmup: int = 400
    vocabulary: int = 4000
    longest: int = 60
    dropout: float | None = None
    label_smoothing: float = 0.1
    beam: int = 4
    seed: int = 0
    device: str = "cpu"


# The paper's table at full size; what it does not state (batch, rate, vocabulary) is usual for IWSLT'14.
TABLE3 = Settings(
    model="transformer-base",
    precisions=tuple(PAPER),
    epochs=70,
    tokens=4096,
    lr=5e-4,
    warmup=4000,
    vocabulary=10_000,
    longest=100,
)


@holds_out
def run(
    text: ParallelText,
    settings: Settings,
    out: Path,
    resume: bool = False,
    progress: bool | Reporter | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 50,
    log: str | Sequence[str] = (),
) -> dict[str, Any]:
    """Train under every precision, translate the test set, and return the summary that `out` gets.

    Args:
        text: the corpus.
        settings: what is done.
        out: folder of the results; every precision has a folder in it with its metrics, checkpoint,
            tokenizer, translations and result.
        resume: continue with what is not done, bit for bit.
        progress: True or None shows a bar on a terminal, plain lines elsewhere; False nothing; a `Reporter`
            is told.
        checkpoint_every: steps between checkpoints; None means one at the end of each epoch.
        log_every: as in `Trainer.fit`.
        log: as in `Trainer.fit`; every precision is a run of its own there.

    A run whose steps stay without finite numbers is reported as failed, and the others are done.

    Raises:
        ValueError: a setting is out of range, or `out` holds other results.
        TypeError: a setting is of the wrong kind.
        UnsupportedPrecision: the device cannot honour a precision.
        ImportError: the extra `text` or the package of a logger is not installed.
        Interrupted: a signal stopped it.
        SaveError: a file could not be written.
    """
    policies = [Precision.get(name) for name in settings.precisions]
    log = names_of(log)
    check_installed(log)
    fitting = {"checkpoint_every": checkpoint_every, "log_every": log_every, "log": log}
    backends.get(settings.device)
    bleu(["a"], ["a"])  # says what is missing before anything is trained
    shown = reporter(progress, "tokens/s")
    tokenizer, encoded = encode(text, settings, shown)
    for policy in policies:  # wrong settings show here, before a folder is made
        make_trainer(settings, policy, tokenizer)
    stored = {**asdict(settings), "precisions": list(settings.precisions), "data": encoded.name}
    claim(out, stored, resume, may_change=frozenset({"precisions"}))
    runs = [
        _one(settings, policy, text, tokenizer, encoded, out / policy.name, shown, fitting)
        for policy in policies
    ]
    summary = {
        "data": encoded.name,
        "pairs": {"train": len(encoded.train), "val": len(text.val), "test": len(text.test)},
        "settings": stored,
        "runs": runs,
        "paper": {name: PAPER[name] for name in settings.precisions if name in PAPER},
        "machine": machine(settings.device),
        "curves": _curves(runs, out),
    }
    write_json(out / SUMMARY, summary)
    return summary


def encode(text: ParallelText, settings: Settings, shown: Reporter) -> tuple[Tokenizer, EncodedText]:
    """Learn the tokens of a corpus and return them with the corpus in numbers."""
    shown.note(f"learning {settings.vocabulary} tokens of {text.source} and {text.target}")
    tokenizer = Tokenizer.train([*text.train.source, *text.train.target], settings.vocabulary)
    return tokenizer, EncodedText.of(tokenizer, text, settings.longest)


def make_trainer(settings: Settings, policy: Precision, tokenizer: Tokenizer) -> TranslationTrainer:
    """Return the trainer of a precision, on its untrained network."""
    model = transformer.create(settings.model, tokenizer.size, dropout=settings.dropout, seed=settings.seed)
    config = TrainConfig(
        "adam",
        settings.lr,
        betas=(0.9, 0.98),
        schedule="inverse-sqrt",
        warmup=settings.warmup,
        label_smoothing=settings.label_smoothing,
    )
    return TranslationTrainer.of(model, policy, config, settings.device, settings.seed)


def _one(
    settings: Settings,
    policy: Precision,
    text: ParallelText,
    tokenizer: Tokenizer,
    encoded: EncodedText,
    folder: Path,
    shown: Reporter,
    fitting: Mapping[str, Any],
) -> dict[str, Any]:
    record = folder / RUN
    if record.exists():
        shown.note(f"{policy.name}: already done, taken from {record}")
        return read_run(record, _RECORD)
    trainer = make_trainer(settings, policy, tokenizer)
    resumed = (folder / CHECKPOINT).exists()
    choices = policy.describe(backends.get(trainer.device))
    result: dict[str, Any] = {"precision": policy.name, "precision_choices": choices}
    try:
        history = trainer.fit(
            encoded,
            settings.epochs,
            settings.tokens,
            out=folder,
            resume=resumed,
            progress=shown,
            **fitting,
        )
    except NonFiniteError as error:
        shown.note(f"{policy.name}: {error}")
        failed = {"status": "failed", "error": str(error), "bleu": None, "bleu_signature": None}
        result |= {**failed, "history": finished_epochs(folder), "test_loss": None, "train_seconds": None}
    else:
        result |= {**renamed(history.summary()), "bleu": None, "bleu_signature": None}
        if history.failure is not None:
            shown.note(f"{policy.name}: {history.failure}")
        else:
            write_atomically(folder / TOKENIZER, tokenizer.to_json())
            shown.note(f"{policy.name}: translating {len(text.test)} sentences, beam {settings.beam}")
            said = translations(trainer, tokenizer, text.test.source, settings.beam)
            write_atomically(folder / TRANSLATIONS, "\n".join(said) + "\n")
            score = bleu(said, text.test.target)
            result |= {"bleu": score.score, "bleu_signature": score.signature, "source": text.source}
            result |= {"target": text.target}
            shown.note(f"{policy.name}: BLEU {score.score:.2f}")
    write_json(record, result)
    gc.collect()  # the tape's cycles hold arrays, which would count as memory of the next run
    return result


def translations(
    trainer: TranslationTrainer, tokenizer: Tokenizer, sentences: Sequence[str], beam: int
) -> list[str]:
    """Return the translations of sentences as text, in their order."""
    found = trainer.translate(tokenizer.encode(sentences), beam)
    return tokenizer.decode([hypothesis.tokens for hypothesis in found])


def renamed(summary: dict[str, Any]) -> dict[str, Any]:
    """Return a history's summary with "val" for what is not the test set here, and tokens for images."""
    names = {"test_loss": "val_loss", "test_accuracy": "val_token_accuracy"}
    names |= {"train_accuracy": "train_token_accuracy", "images_per_second": "tokens_per_second"}
    return {names.get(key, key): value for key, value in summary.items()}


def _curves(runs: list[dict[str, Any]], out: Path) -> str | None:
    """Draw the losses side by side where matplotlib is installed; the picture's name."""
    try:
        from .report import plots

        figure = plots.per_epoch(runs, "loss")
    except ImportError:
        return None
    plots.save(figure, out, CURVES)
    return f"{CURVES}.png"
