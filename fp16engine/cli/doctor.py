"""`fp16engine doctor`."""

from __future__ import annotations

import argparse
from typing import Any

from .output import print_json, print_table, print_text
from .parser import add_command


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "doctor",
        "what this machine has, what the engine will use, what to install for more",
        "Look at processor, GPU, driver, libraries and packages, run one small FP16 step and compare it\n"
        "with the reference, and say what the engine will use. Exit status 1 if it cannot train here.",
        "  fp16engine doctor\n  fp16engine doctor --json",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document on standard output, nothing else"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    from .. import doctor

    found = doctor.report()
    if arguments.json:
        print_json(found)
    else:
        _print(found)
    return 0 if found["ok"] else 1


def _print(found: dict[str, Any]) -> None:
    machine, cpu, gpu, test = (found[key] for key in ("machine", "cpu_backend", "gpu", "self_test"))
    memory = machine["memory_bytes"]
    rows = [
        (
            "processor",
            f"{machine['cpu'] or 'unknown'}, {machine['cores']} cores"
            + (f", {memory / 2**30:.0f} GiB" if memory else ""),
        ),
        ("features", " ".join(found["cpu_features"]) or "none of interest"),
        ("system", f"{machine['os']}, Python {machine['python']}"),
        ("CPU backend", _cpu(cpu)),
        ("GPU", ", ".join(gpu["devices"]) or gpu["driver_missing"] or "none"),
        ("GPU driver", gpu["driver"] or "none"),
        ("CUDA module", "built" if gpu["backend_built"] else "not in this build: training runs on the CPU"),
        ("cuBLAS", gpu["cublas"] or "not found (in the nvidia-cublas wheel)"),
        ("cuDNN", gpu["cudnn"] or "not found (in the nvidia-cudnn-cu13 wheel)"),
        (
            "packages",
            ", ".join(f"{name} {version}" for name, version in found["packages"].items() if version),
        ),
    ]
    if test:
        rows.append(("self-test", _verdict(test)))
    if found["cuda_self_test"]:
        rows.append(("self-test on the GPU", _verdict(found["cuda_self_test"])))
    print_table(f"fp16engine {found['version']}", ("", ""), rows, left=2)
    print()
    print("Ready to train on: " + (", ".join(found["devices"]) or "nothing here"))
    for line in found["advice"]:
        print_text(f"- {line}")


def _verdict(test: dict[str, Any]) -> str:
    verdict = (
        "passed"
        if test["passed"]
        else f"FAILED, {test['reason'] or 'largest errors ' + str(test['max_error'])}"
    )
    return f"{verdict}: {test['what']}"


def _cpu(cpu: dict[str, Any]) -> str:
    if not cpu["available"]:
        return "not available"
    parts = [str(cpu.get("isa") or "unknown instructions")]
    if cpu.get("threads"):
        parts.append(f"{cpu['threads']} threads")
    return ", ".join(parts)
