"""`fp16engine preflight`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..floats import is_sixteen_bit
from ..precision import Precision
from . import defaults, options
from .output import megabytes, print_json, print_table, print_text
from .parser import add_command

if TYPE_CHECKING:
    from ..train import Trainer

_MOST_LAYERS = 16


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "preflight",
        "before a run: will FP16 work here, and what does each precision need",
        "Test the device (FP16 results against FP32), run a probing batch in FP32 and say what binary16\n"
        "would make of it, layer by layer (overflow, underflow, updates without effect), measure the memory\n"
        "of each precision, and suggest a policy. Takes seconds to a minute; trains and writes nothing.\n"
        "Exit status 1 if the device computes FP16 wrong.",
        "  fp16engine preflight\n"
        "  fp16engine preflight --model resnet20 --data cifar10 --data-dir ~/cifar10 --lr 0.1\n\n"
        + defaults.table(),
    )
    options.add_data(parser, "digits")
    options.add_training(parser)
    options.add_device(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document on standard output, nothing else"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    from .. import preflight
    from ..train import Trainer

    options.fill(arguments)
    dataset = options.load_data(arguments)
    options.use_threads(arguments)
    config = replace(options.train_config(arguments), accumulate=1)  # one micro-batch is in memory at a time

    def make(policy: Precision) -> Trainer:
        model = options.make_model(arguments, dataset)
        own = config if is_sixteen_bit(policy.statistics) else replace(config, statistics=None)
        return Trainer.of(model, policy, own, arguments.device, arguments.seed)

    count = preflight.STEPS * preflight.PROBE
    images, labels = dataset.normalised("train", "float32")[:count], dataset.train.labels[:count]
    result = {
        "model": arguments.model,
        "data": dataset.name,
        "batch_size": arguments.batch_size,
        **preflight.run(
            make, images, labels, arguments.batch_size, lambda text: print(text, file=sys.stderr, flush=True)
        ),
    }
    if arguments.json:
        print_json(result)
    else:
        _print(result)
    return 0 if result["ok"] else 1


def _print(result: dict[str, Any]) -> None:
    device = result["device"]
    tests = device["operations"]
    failed = [row["operation"] for row in tests if not row["passed"]]
    verdict = f"wrong: {', '.join(failed)}" if failed else f"{len(tests)} operations agree with FP32"
    print(f"Device {device['device']}: {verdict}.\n")
    rows = [
        (
            layer["layer"],
            "" if layer["largest_activation"] is None else f"2^{layer['largest_activation']}",
            _percent(layer["overflow"]),
            _percent(layer["gradient_underflow"]),
            _percent(layer["weight_gradient_underflow"]),
            "" if layer["lost_updates"] is None else _percent(layer["lost_updates"]),
        )
        for layer in _worst(result["layers"])
    ]
    head = ("layer", "largest", "beyond 65504", "gradient to 0", "weights' to 0", "updates lost")
    left = len(result["layers"]) - len(rows)
    print_table(f"What FP16 would make of {result['model']} on {result['data']}", head, rows)
    if left:
        print(f"  and {left} layers with smaller shares")
    print()
    memory = [
        (
            plan["precision"],
            *(megabytes(plan[key]) for key in ("weights", "gradients", "optimizer", "activations", "total")),
        )
        for plan in result["memory"]
    ]
    print_table(
        f"Memory at batch {result['batch_size']}",
        ("", "weights", "gradients", "optimizer", "activations, work", "in all"),
        memory,
    )
    suggestion = result["suggestion"]
    if result["diverged"]:
        print("\nNothing can be suggested:")
    else:
        print(f"\nSuggested: --precision {suggestion['precision']}")
    for name, value in suggestion["settings"].items():
        if name == "statistics":
            print(f"  with --statistics {value}")
    for reason in suggestion["reasons"]:
        print_text(f"because {reason}", "  ")
    print(f"\n{result['seconds']:.1f} s")


def _worst(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The layers with the largest shares, in the network's order."""

    def trouble(layer: dict[str, Any]) -> float:
        shares = ("overflow", "gradient_underflow", "weight_gradient_underflow", "lost_updates")
        return max(1.0 if layer["problems"] else 0.0, *(layer[key] or 0.0 for key in shares))

    chosen = sorted(range(len(layers)), key=lambda i: trouble(layers[i]), reverse=True)[:_MOST_LAYERS]
    return [layers[i] for i in sorted(chosen)]


def _percent(share: float) -> str:
    from ..numerics.ranges import percent

    return percent(share)
