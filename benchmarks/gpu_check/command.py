"""The command, and what runs its parts one after the other.

    python benchmarks/gpu_check                         all parts, in eight minutes
    python benchmarks/gpu_check --minutes 15            more of each; the same command again does the rest
    python benchmarks/gpu_check --parts kernels steps   only these
    python benchmarks/gpu_check --device cpu --dry      every path at tiny sizes, without a GPU
    python benchmarks/gpu_check --fake --dry            the same on a GPU made of the simulator

Each part is a process of its own with a time limit, leaves RESULTS/<part>.json however it ends, and does not
stop the others. A part that is done is not run again unless named with --again. RESULTS/gpu_check.json and
gpu_check.md have every claim, what was measured, and pass, fail or awaiting. RESULTS is
benchmarks/results/<device>, or --out. Needs nothing from a network; what is missing, nvcc too, is taken from
--wheels, a folder of wheels (docs/gpu.md says which).

Exit status 0 if every part is done and nothing failed, 1 otherwise, 2 if the command line was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_check import claims, report
from gpu_check.part import BENCHMARKS, ROOT, own_python
from gpu_check.plan import GRACE, LEAST_SECONDS, MINUTES, PARTS, Part


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the checked command line."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--parts", nargs="+", choices=names, default=names, metavar="PART", help="default: all"
    )
    parser.add_argument(
        "--again", nargs="*", choices=names, default=[], metavar="PART", help="though it is done"
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, metavar="X", help=f"for all parts (default: {MINUTES:g})"
    )
    parser.add_argument("--device", default="cuda", help="cuda, or with --dry cpu, simt, reference")
    parser.add_argument("--dry", action="store_true", help="tiny sizes: only to see that every part runs")
    parser.add_argument("--fake", action="store_true", help="with --dry: cuda, made of the simulator")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--wheels", type=Path, help="folder of wheels for what is not installed")
    options = parser.parse_args(argv)
    if not 0 < options.minutes < float("inf"):
        parser.error(f"--minutes must be a finite number > 0, got {options.minutes:g}")
    if options.fake and not (options.dry and options.device == "cuda"):
        parser.error(f"--fake must be with --dry and --device cuda, got {options.device}")
    if not options.device.startswith("cuda") and not options.dry:
        parser.error(f"--device must be cuda without --dry, got {options.device}")
    if options.wheels is not None and not options.wheels.is_dir():
        parser.error(f"--wheels must be a folder, got {options.wheels}")
    if options.out is None:
        options.out = (
            ROOT / "benchmarks" / "results" / ("dry-fake" if options.fake else folder_name(options.device))
        )
    return options


def folder_name(device: str) -> str:
    """Return the name of the results' folder: the GPU's name, or dry-<device> for what is no GPU."""
    if not device.startswith("cuda"):
        return f"dry-{device}"
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
        name = done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else "gpu"
    except (OSError, subprocess.TimeoutExpired):
        name = "gpu"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def run_part(part: Part, options: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Run a part in a process of its own for at most `limit` seconds and return what becomes its file."""
    result = options.out.resolve() / f"{part.name}.part"
    result.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": search_path(options)}
    log = options.out / f"{part.name}.log"
    start = time.monotonic()
    with log.open("w") as output:
        child = subprocess.Popen(
            command(part, options, result, limit), stdout=output, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True, cwd=options.out,
        )  # fmt: skip
        try:
            status: int | None = child.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_session(child)
    seconds = round(time.monotonic() - start, 1)
    found: dict[str, Any] = {"part": part.name, "seconds": seconds, "status": "failed", "result": None}
    if result.exists():  # also what a part had found when its time was over
        found["result"] = json.loads(result.read_text())
        result.unlink()
    if status == 0 and found["result"] is not None:
        found["status"] = "failed" if found["result"].get("failed") else "done"
        found["reason"] = found["result"].get("failed")
    elif status is None:
        found["reason"] = f"not done after {limit:.0f} s"
    else:
        found["reason"] = f"ended with status {status}: {last_line(log)}"
    return found


def command(part: Part, options: argparse.Namespace, result: Path, limit: float) -> list[str]:
    """Return the command line of a part."""
    argv = [own_python(), "-m", "gpu_check.parts", part.name, "--result", str(result)]
    argv += ["--device", options.device, "--out", str(options.out.resolve())]
    argv += ["--seconds", f"{max(limit - GRACE, 0):.0f}"]
    argv += ["--dry"] * options.dry + ["--fake"] * options.fake
    argv += ["--wheels", str(options.wheels.resolve())] if options.wheels else []
    return argv


def end_session(child: subprocess.Popen[bytes]) -> None:
    """End what a part has left running, and only that: its children share its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"


def search_path(options: argparse.Namespace) -> str:
    """Return PYTHONPATH for the parts: this package, and a checkout that has or gets modules of its own.

    Elsewhere the installed package is the one that was built; the GPU of the simulator builds none.
    """
    builds = options.device.startswith("cuda") and not options.fake
    here = builds or any((ROOT / "fp16engine").glob("_*.so"))
    entries = (str(BENCHMARKS), str(ROOT) if here else None, os.environ.get("PYTHONPATH"))
    return os.pathsep.join(filter(None, entries))


def load(out: Path, name: str) -> dict[str, Any] | None:
    """Return the result of a part that was run before."""
    file = out / f"{name}.json"
    try:
        stored: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return stored


def check(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is not done and fits, write everything, and return the whole result."""
    options.out.mkdir(parents=True, exist_ok=True)
    gpu = options.device.startswith("cuda")
    end = time.monotonic() + 60 * options.minutes
    before = {part.name: load(options.out, part.name) for part in PARTS}
    waiting = []
    for part in PARTS:
        if part.name not in options.parts:
            continue
        if (before[part.name] or {}).get("status") == "done" and part.name not in options.again:
            say(part, "done before")
        else:
            waiting.append(part)
    for position, part in enumerate(waiting):
        kept = sum(later.least for later in waiting[position + 1 :] if gpu or not later.needs_gpu)
        left = end - time.monotonic()
        if part.needs_gpu and not gpu:
            found = skipped("needs a GPU")
        elif left < LEAST_SECONDS:
            found = skipped("no time left, run again")
        else:
            say(part, part.what)
            found = run_part(part, options, min(part.most, max(part.least, left - kept), left))
        if found["result"] is None and before[part.name] is not None:
            found["result"] = before[part.name]["result"]  # what was found before is not lost
        write(options.out / f"{part.name}.json", {**found, "part": part.name})
        reason = f" ({found['reason']})" if found.get("reason") else ""
        say(part, f"{found['status']}, {found['seconds']:.1f} s{reason}")
        conclude(options)  # after each: the machine may be taken away
    return conclude(options)


def conclude(options: argparse.Namespace) -> dict[str, Any]:
    """Write what all parts have found by now, and return it."""
    stored = {part.name: load(options.out, part.name) for part in PARTS}
    result = {
        "what": "dry run at tiny sizes, nothing is measured" if options.dry else "check of a GPU",
        "device": options.device,
        "seconds": round(sum(found["seconds"] for found in stored.values() if found), 1),
        "parts": stored,
        "must_show": claims.must_show(stored, options.dry),
    }
    write(options.out / "gpu_check.json", result)
    (options.out / "gpu_check.md").write_text(report.markdown(result, PARTS))
    return result


def skipped(reason: str) -> dict[str, Any]:
    """Return what is written of a part that was not run."""
    return {"status": "skipped", "seconds": 0.0, "reason": reason, "result": None}


def say(part: Part, text: str) -> None:
    print(f"{part.name:13} {text}", file=sys.stderr, flush=True)


def write(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    result = check(options)
    print(report.markdown(result, PARTS))
    print(f"written to {options.out}", file=sys.stderr)
    finished = [found for found in result["parts"].values() if found and found["status"] != "skipped"]
    return 0 if all(found["status"] == "done" for found in finished) else 1


if __name__ == "__main__":
    sys.exit(main())
