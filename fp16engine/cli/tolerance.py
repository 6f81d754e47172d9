"""`fp16engine tolerance`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..experiments.report.labels import NOTHING
from . import options, run_data
from .output import print_json, print_table, print_text, share, short
from .parser import add_command

_KINDS = {"probabilities": "probabilities", "calibrated": "calibrated", "logits": "logits"}
_MOST_LAYERS = 12


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "tolerance",
        "how far apart two networks' predictions are, and what that proves",
        "Compare two checkpoints on a test set, image by image: δ (the largest difference of two\n"
        "probabilities), Γ (the margin of the reference), the share of images on which both must agree, and\n"
        "the share on which they do; for probabilities, calibrated probabilities and logits. Then a\n"
        "training step of RUN_A runs under both policies in lock step, and the first layer whose error\n"
        "leaves its bound is named. With one checkpoint, its weights are run under two policies. The exit\n"
        "status is 1 if the outputs are not finite, so that nothing can be compared.",
        "  fp16engine tolerance runs/digits/fp32 runs/digits/fp16\n"
        "  fp16engine tolerance runs/digits/fp32 --precision fp16-strict --out runs/tolerance",
    )
    parser.add_argument("reference", metavar="RUN_A", help="folder of the reference's checkpoint")
    parser.add_argument(
        "other", nargs="?", metavar="RUN_B", help="folder of the other checkpoint (default: RUN_A itself)"
    )
    parser.add_argument(
        "--reference-precision",
        type=options.precision,
        metavar="NAME",
        help="run RUN_A under this policy (default: its own; fp32 without RUN_B)",
    )
    parser.add_argument(
        "--precision",
        type=options.precision,
        metavar="NAME",
        help="run RUN_B under this policy (default: its own; fp16 without RUN_B)",
    )
    options.add_data(parser, None)
    parser.add_argument("--batch-size", type=options.whole(1), default=256, metavar="N", help="default: 256")
    options.add_device(parser)
    parser.add_argument(
        "--out",
        type=options.folder_name,
        metavar="DIR",
        help="write tolerance.json, samples.csv and the scatter plot there",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document on standard output, nothing else"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    from ..experiments import tolerance
    from ..prediction.predictor import checkpoint_of

    reference = checkpoint_of(arguments.reference)
    other = checkpoint_of(arguments.other) if arguments.other else None
    out = Path(arguments.out) if arguments.out else None
    if out is not None and (out / tolerance.RESULT).exists():
        raise ValueError(f"--out must be a folder without {tolerance.RESULT}, got {out}")
    dataset, _ = run_data.of_run(arguments, reference)
    options.use_threads(arguments)
    result = tolerance.run(
        reference,
        other,
        dataset,
        reference_precision=arguments.reference_precision,
        precision=arguments.precision,
        device=arguments.device,
        batch_size=arguments.batch_size,
        out=out,
    )
    if arguments.json:
        print_json(result)
    else:
        _print(result)
        if out is not None:
            print(f"\nResults: {out}")
    return 0 if result["probabilities"]["delta_mean"] is not None else 1


def _print(result: dict[str, Any]) -> None:
    rows = [
        (
            words,
            short(result[kind]["delta_mean"]),
            short(result[kind]["delta_max"]),
            short(result[kind]["gamma_sound_mean"]),
            short(result[kind]["gamma_mean"]),
            share(result[kind]["guaranteed_share"]),
            share(result[kind]["agreement"]),
        )
        for kind, words in _KINDS.items()
    ]
    head = ("", "δ mean", "δ largest", "Γ mean", "Γ (paper)", "must agree", "agree")
    images = f"{result['test_images']:,} test images of {result['data']}"
    print_table(f"{result['other']} against {result['reference']} on {images}", head, rows)
    one, two = result["accuracy"]
    cold = ", ".join(NOTHING if t is None else f"{t:.3g}" for t in result["temperature"])
    print(f"\nAccuracy {share(one)} and {share(two)}; temperatures {cold}.")
    if result["probabilities"]["delta_mean"] is None:
        names = [result[which] for which, a in (("reference", one), ("other", two)) if a is None]
        whose = f"the outputs of {' and '.join(names)} are" if names else "one network's outputs are always"
        print_text(f"Nothing can be compared: {whose} not finite.")
    step = result["lockstep"]
    if step is None:
        print("\nNot run in lock step: both have the same policy.")
        return
    layers = list({row["layer"]: row for row in step["rows"] if row["phase"] == "forward"}.values())
    every = -(-len(layers) // _MOST_LAYERS)
    shown = layers[::-every][::-1]
    print()
    print_table(
        f"A training step of {result['reference']} in lock step: relative error of a layer's output",
        ("layer", "error", "bound"),
        [(row["layer"], _small(row["relative_error"]), _small(row["bound"])) for row in shown],
    )
    first = step["first"]
    if first is None:
        print("\nEvery layer stays within its bound, forward and backward.")
    else:
        print(
            f"\nThe first to leave its bound: {first['layer']} ({first['phase']}, {first['op']}), "
            f"error {_small(first['relative_error'])} beyond {_small(first['bound'])}."
        )


def _small(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"
