"""Ends `fp16engine reproduce` by SIGKILL at random moments and compares what comes out with a whole run.

    python benchmarks/kill_reproduce.py --kills 20 --out result.json

One folder is worked on without a disturbance. Then the same command is started again and again in another
folder and killed at random moments of its work, until it ends by itself; further folders follow until the
kills are used up. Every finished folder's canonical export must equal the first one's, byte for byte. Exit
status 1 if one does not.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fp16engine.doctor import machine
from fp16engine.experiments.reproduce import STORE
from fp16engine.experiments.runs.store import Store

COMMAND = (
    "reproduce figure2 --data digits --models dnn,resnet20 --precisions fp16,fp32,mp --epochs 3 --limit 200 "
    "--seeds 2 --batch-size 32 --threads 1 --checkpoint-every 3"
)

AHEAD = 6  # epochs from one kill to the next, at most
MOST_SECONDS = 1.5  # after the end of an epoch: long enough to reach any step of the next and what follows


def start(out: Path) -> subprocess.Popen[bytes]:
    """Start the command in a folder, its words discarded."""
    return subprocess.Popen(
        [sys.executable, "-m", "fp16engine", *COMMAND.split(), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def export(out: Path) -> str:
    """Return the canonical export of a folder's store as text."""
    with Store(out / STORE) as store:
        return json.dumps(store.export(), sort_keys=True)


def epochs(out: Path) -> int:
    """Return how many epochs a folder has trained."""
    if not (out / STORE).exists():
        return 0
    with Store(out / STORE) as store:
        rows = [store.row(key) for key in store.run_keys()]
    return sum(len(row.history) for row in rows if row is not None)


def kill_within(child: subprocess.Popen[bytes], out: Path, moments: random.Random, total: int) -> int:
    """Kill the command some epochs from now and a random time more, unless it is done before.

    Returns its status.
    """
    target = min(epochs(out) + moments.randrange(AHEAD), total)
    while child.poll() is None and epochs(out) < target:
        time.sleep(0.01)
    try:
        return child.wait(moments.uniform(0.0, MOST_SECONDS))
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        return child.wait()


def main() -> int:
    """Run the comparison and print its result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--out", metavar="FILE", help="write the result to this file too")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    kills: list[dict[str, int]] = []
    finished = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if start(folder / "whole").wait() != 0:
            raise SystemExit("the undisturbed command failed")
        expected, total = export(folder / "whole"), epochs(folder / "whole")
        while len(kills) < arguments.kills or not finished or finished[-1]["open"]:
            if not finished or not finished[-1]["open"]:
                finished.append({"open": True, "kills": 0, "equal": None})
            out = folder / f"killed-{len(finished)}"
            child = start(out)
            # once the kills are used up, the last folder is left to finish
            last = len(kills) == arguments.kills
            status = child.wait() if last else kill_within(child, out, moments, total)
            if status == -signal.SIGKILL:
                kills.append({"folder": len(finished), "epochs_trained": epochs(out)})
                finished[-1]["kills"] += 1
            else:
                finished[-1] |= {"open": False, "equal": status == 0 and export(out) == expected}
            print(f"{len(kills)} kills, {len(finished)} folders", file=sys.stderr, flush=True)
    equal = all(one["equal"] for one in finished)
    result = {
        "command": f"fp16engine {COMMAND}",
        "epochs_in_all": total,
        "kills": kills,
        "finished": [{"kills": one["kills"], "equal": one["equal"]} for one in finished],
        "equal": equal,
        "machine": machine(),
    }
    text = json.dumps(result, indent=1)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n")
    print(text)
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
