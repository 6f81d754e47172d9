"""Ask cuDNN, without a GPU, for a plan of every graph that the models' training steps need on a GPU.

    python -m venv plans && . plans/bin/activate
    pip install numpy safetensors rich && pip install --no-deps -r benchmarks/requirements-cudnn-plans.txt
    PYTHONPATH=. python benchmarks/check_cudnn_plans.py --out benchmarks/results/cudnn_plans

Shapes come from a recorded training step of each model (batch 1, on the CPU or the reference backend), the
graphs from the header the CUDA module itself uses, plans from the real cuDNN, told about the device instead
of finding one: it validates a graph, applies the policy's filters, selects engines and compiles the first
plan for the architecture. Nothing is executed: a plan proves support and workspace, not results or speed.
Matrix products of the engine go through cuBLASLt, which plans on a device only; those of the ViT block are
asked of cuDNN, which could serve them with the bias and GELU fused.

Exit status 1 if a graph has no plan on some device, 2 if the check itself cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fp16engine as fe
from fp16engine.backend import cuda_libraries
from fp16engine.numerics.intercept import intercept, named_arguments

ROOT = Path(__file__).resolve().parents[1]
CUDA = ROOT / "csrc" / "cuda"
PROGRAM = "cudnn_plans"

# What the policies ask of a graph: their names, the stored type, the compute type.
POLICIES = (
    ("fp16, mp", "float16", "float32"),
    ("fp16-strict", "float16", "float16"),
    ("fp32", "float32", "float32"),
    ("tf32", "float32", "tf32"),
)
CONV_PASSES = ("forward", "data gradient", "weight gradient")

Graph = dict[str, Any]  # "graph", "shape", ... as csrc/cuda/testing/cudnn_plans.cpp reads it


class VitBlock(fe.nn.Module):
    """An encoder block of the study's ViT-8: 25 positions of 64, 4 heads of 64, MLP 512, normalised after."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = fe.nn.MultiHeadAttention(64, 4, head_dim=64)
        self.norm1, self.norm2 = fe.nn.LayerNorm(64, eps=1e-6), fe.nn.LayerNorm(64, eps=1e-6)
        self.widen, self.narrow = fe.nn.Linear(64, 512), fe.nn.Linear(512, 64)

    def forward(self, x: fe.Tensor) -> fe.Tensor:
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.narrow(fe.functional.gelu(self.widen(x))))


class Recorder:
    """Collects the library graphs of a training step from the backend's calls, for a batch of one."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self._activated: list[Any] = []  # outputs of gelu, kept so that no other array takes their identity

    def __call__(self, op: str, method: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        record = getattr(self, f"_{op}", None)
        result = method(*args, **kwargs)
        if record is not None:
            record(named_arguments(method, tuple(args), kwargs), result)
        return result

    def _conv(self, call: dict[str, Any], y: Any, passes: Sequence[str], bias: bool) -> None:
        (n, h, w, c), (k, r, s, _) = call["x"].shape, call["w"].shape
        shape = [n, h, w, c, k, r, s, y.shape[1], y.shape[2], *call["stride"], *call["pads"], call["groups"]]
        for which in passes:
            self.graphs.append({"graph": "convolution", "pass": which, "shape": shape, "bias": bias})

    def _conv2d_forward(self, call: dict[str, Any], y: Any) -> None:
        self._conv(call, y, ["forward"], call["b"] is not None)

    def _conv2d_backward(self, call: dict[str, Any], _: Any) -> None:
        wanted = [p for p, needed in zip(CONV_PASSES[1:], call["needs"][:2], strict=True) if needed]
        self._conv(call, call["dy"], wanted, False)

    def _product(self, label: str, shape: Sequence[int], **options: Any) -> None:
        self.graphs.append({"graph": "product", "pass": label, "shape": list(shape), **options})

    def _linear_forward(self, call: dict[str, Any], _: Any) -> None:
        (m, k), n = call["x"].shape, call["w"].shape[0]
        epilogue = "bias" if call["b"] is not None else ""
        self._product("linear", (1, m, n, k), epilogue=epilogue, transpose_b=True)

    def _unary(self, call: dict[str, Any], y: Any) -> None:
        if call["op"] == "gelu":
            self._activated.append(y)
            if self.graphs and self.graphs[-1].get("epilogue") == "bias":
                self.graphs[-1]["epilogue"] = "bias, gelu"

    def _linear_backward(self, call: dict[str, Any], _: Any) -> None:
        (m, k), n = call["x"].shape, call["w"].shape[0]
        if call["needs"][0]:
            base = getattr(call["x"], "base", None)
            activated = any(call["x"] is y or (base is not None and base is y) for y in self._activated)
            self._product("linear data gradient", (1, m, k, n), epilogue="gelu gradient" if activated else "")
        if call["needs"][1]:
            self._product("linear weight gradient", (1, n, k, m), transpose_a=True)

    def _attention_forward(self, call: dict[str, Any], _: Any) -> None:
        self.graphs.append({"graph": "attention", "pass": "forward", "shape": list(call["q"].shape)})

    def _attention_backward(self, call: dict[str, Any], _: Any) -> None:
        self.graphs.append({"graph": "attention", "pass": "backward", "shape": list(call["q"].shape)})


def record(name: str) -> list[Graph]:
    """Return the graphs of one training step of a model, or of "vit-block"."""
    device = "cpu" if "cpu" in fe.devices() else "reference"
    recorder = Recorder()
    with fe.random.fork(0):
        model = VitBlock() if name == "vit-block" else fe.models.create(name)
        model.to(device)
        shape = (1, 25, 64) if name == "vit-block" else (1, 32, 32, 3)
        x = fe.tensor(fe.random.generator().standard_normal(shape), dtype="float32", device=device)
        x.requires_grad = name == "vit-block"  # a block inside a network hands its gradient on
        with intercept(recorder):
            fe.functional.sum(model(x)).backward()
    return recorder.graphs


def scaled(graph: Graph, batch: int) -> Graph:
    """The graph of a batch of one, for a batch of `batch`: images, rows of a product, terms of a gradient."""
    shape = list(graph["shape"])
    axis = 0 if graph["graph"] != "product" else 3 if graph["pass"] == "linear weight gradient" else 1
    shape[axis] *= batch
    return {**graph, "shape": shape}


def served_by_cudnn(graph: Graph, dtype: str, compute: str) -> list[Graph]:
    """The graphs to ask for: attention of binary16 sums is products, products of float32 are not cuDNN's."""
    if graph["graph"] == "convolution" or (dtype == "float16" and compute == "float32"):
        return [graph]
    if dtype == "float32":
        return []
    if graph["graph"] == "product":
        return [graph]
    b, h, s, d = graph["shape"]
    forms: list[tuple[str, tuple[int, int, int], dict[str, bool]]] = [
        ("scores", (s, s, d), {"transpose_b": True}),
        ("values", (s, d, s), {}),
    ]
    if graph["pass"] == "backward":
        forms = [
            ("probability gradients", (s, s, d), {"transpose_b": True}),
            ("query gradients", (s, d, s), {}),
            ("key and value gradients", (s, d, s), {"transpose_a": True}),
        ]
    return [
        {"graph": "product", "pass": f"attention {label}", "shape": [b * h, *sizes], **options}
        for label, sizes, options in forms
    ]


def describe(graph: Graph) -> str:
    n = graph["shape"]
    if graph["graph"] == "attention":
        return f"attention {n[1]} heads of {n[3]}, {n[2]} positions, {graph['pass']}"
    if graph["graph"] == "product":
        count = f"{n[0]} x " if n[0] > 1 else ""
        extra = f" + {graph['epilogue']}" if graph.get("epilogue") else ""
        return f"{graph['pass']} {count}({n[1]}, {n[3]}) ({n[3]}, {n[2]}){extra}"
    stride, pads = n[9], n[11:15]
    return (
        f"conv {n[5]}x{n[6]}/{stride} {n[3]}->{n[4]} at {n[1]}x{n[2]}"
        + (f" pads {','.join(map(str, pads))}" if len(set(pads)) > 1 else "")
        + f", {graph['pass']}"
        + (" + bias" if graph["bias"] else "")
    )


# --- the program that asks cuDNN ---------------------------------------------------------------------------


def build(folder: Path) -> tuple[Path, Path]:
    """Compile the program and the stand-in for the driver, unless they are newer than their sources."""
    folder.mkdir(parents=True, exist_ok=True)
    program, driver = folder / PROGRAM, folder / "libcuda.so.1"
    sources = [CUDA / "testing" / f"{PROGRAM}.cpp", *CUDA.glob("*.h"), *(CUDA.parent / "common").glob("*.h")]
    if not program.exists() or program.stat().st_mtime < max(s.stat().st_mtime for s in sources):
        print("compiling the program that asks cuDNN, about a minute ...", file=sys.stderr, flush=True)
        headers = runpy.run_path(str(ROOT / "cmake" / "nvidia_headers.py"))["folders"]()
        includes = [argument for folder in headers for argument in ("-isystem", str(folder))]
        compiler = [os.environ.get("CXX", "c++"), "-std=c++17", "-O0", f"-I{CUDA.parent}", *includes]
        run_compiler([*compiler, str(sources[0]), "-ldl", "-o", str(program)])
    stub = CUDA / "testing" / "stub_driver.c"
    if not driver.exists() or driver.stat().st_mtime < stub.stat().st_mtime:
        compiler = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
        run_compiler([*compiler, str(stub), "-o", str(driver)])
    return program, driver


def run_compiler(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise CannotRun(f"no compiler {command[0]}; set CXX and CC")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-400:])
        raise CannotRun(
            f"{Path(command[-3]).name} did not compile ({first.strip()}); the headers come with "
            "pip install --no-deps -r benchmarks/requirements-cudnn-plans.txt"
        )


class CannotRun(RuntimeError):
    """The check itself cannot run here."""


def libraries(driver: Path) -> list[str]:
    """Files to open, in order: the stand-in takes the driver's name, so that nobody looks for another."""
    found = cuda_libraries.find()
    missing = [name for name, place in found.items() if place is None]
    if missing:
        raise CannotRun(
            f"{', '.join(missing)} not found; "
            "pip install --no-deps -r benchmarks/requirements-cudnn-plans.txt brings them"
        )
    return [str(driver), *(place.path for place in found.values() if place)]


def ask(command: list[str], requests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the program says of itself, then its answer to each request."""
    text = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or len(answers) != len(requests) + 1:
        raise CannotRun(f"{PROGRAM} ended with status {done.returncode}: {done.stderr.strip()[-400:]}")
    yield from answers


# --- the check -------------------------------------------------------------------------------------------


def check(
    names: Sequence[str], batches: Sequence[int], devices: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Record, ask and return the result: versions and one row per distinct graph, policy and batch."""
    known = json.loads((CUDA / "testing" / "devices.json").read_text())
    rows: list[dict[str, Any]] = []
    for name in names:
        recorded = record(name)
        for policy, dtype, compute in POLICIES:
            wanted = Counter(
                json.dumps(asked) for graph in recorded for asked in served_by_cudnn(graph, dtype, compute)
            )
            # Scaled by the batch after, since a product of attention has its batch among its matrices.
            for text, times in wanted.items():
                for batch in batches:
                    graph = json.loads(text)
                    if graph["pass"].startswith("attention "):
                        graph["shape"][0] *= batch
                    else:
                        graph = scaled(graph, batch)
                    rows.append(
                        {
                            "model": name,
                            "batch": batch,
                            "policy": policy,
                            "what": describe(graph),
                            "times": times,
                            "request": {**graph, "dtype": dtype, "compute": compute},
                            "devices": {},
                        }
                    )
    program, driver = build(folder)
    command = [str(program), *libraries(driver)]
    requests, places = [], []
    for device in devices:
        properties = {**known["all"], **known[device]["properties"]}
        for row in rows:
            requests.append({"device": properties, "sm": known[device]["sm"], **row["request"]})
            places.append((row, f"{device} (sm_{known[device]['sm']})"))
    answers = ask(command, requests)
    versions = next(answers)
    for (row, device), answer in zip(places, answers, strict=True):
        row["devices"][device] = answer
    for row in rows:
        del row["request"]["dtype"], row["request"]["compute"]
        row["request"] = {key: row["request"][key] for key in ("graph", "pass", "shape")}
    return {
        "what": "cuDNN plans found without a GPU, from device properties",
        "cudnn": version(versions["cudnn"], 10000),
        "cudnn_frontend": version(versions["frontend"], 10000),
        "graphs": len(requests),
        "without_plan": sum(answer["plans"] == 0 for row in rows for answer in row["devices"].values()),
        "largest_workspace": max(
            (answer.get("workspace", 0) for row in rows for answer in row["devices"].values()), default=0
        ),
        "rows": rows,
    }


def version(number: int, unit: int) -> str:
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: per graph and policy, plans left and workspace of the first on each device."""
    devices = list(dict.fromkeys(device for row in result["rows"] for device in row["devices"]))
    lines = [
        "# cuDNN plans without a GPU",
        "",
        f"cuDNN {result['cudnn']}, cudnn-frontend {result['cudnn_frontend']}: {result['graphs']} graphs "
        f"asked for, {result['without_plan']} without a plan; "
        f"largest workspace {size(result['largest_workspace'])}. "
        "Cells: plans that the policy's filters leave, workspace of the first, which was built "
        "(* compiled at run time). Nothing was executed.",
        "",
        "## Summary: distinct graphs, fewest plans of one, largest workspace of a first plan",
        "",
        f"| model | batch | policy | {' | '.join(devices)} |",
        "|---" * (3 + len(devices)) + "|",
    ]
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        groups.setdefault((row["model"], row["batch"], row["policy"]), []).append(row["devices"])
    for (name, batch, policy), answers in groups.items():
        cells = " | ".join(summary([answer[device] for answer in answers]) for device in devices)
        lines.append(f"| {name} | {batch} | {policy} | {cells} |")
    for name, batch in dict.fromkeys((row["model"], row["batch"]) for row in result["rows"]):
        lines += ["", f"## {name}, batch {batch}", ""]
        lines += [f"| graph | times | policy | {' | '.join(devices)} |", "|---" * (3 + len(devices)) + "|"]
        for row in result["rows"]:
            if (row["model"], row["batch"]) == (name, batch):
                cells = " | ".join(cell(row["devices"][device]) for device in devices)
                lines.append(f"| {row['what']} | {row['times']} | {row['policy']} | {cells} |")
    return "\n".join(lines) + "\n"


def summary(answers: list[dict[str, Any]]) -> str:
    none = sum(answer["plans"] == 0 for answer in answers)
    if none:
        return f"{len(answers)} graphs, **{none} without a plan**"
    fewest = min(answer["plans"] for answer in answers)
    return f"{len(answers)} graphs, >= {fewest} plans, {size(max(a['workspace'] for a in answers))}"


def cell(answer: dict[str, Any]) -> str:
    if answer["plans"] == 0:
        return f"**none** ({answer['reason'][:120]})"
    return f"{answer['plans']}{'*' if answer['compiled'] else ''}, {size(answer['workspace'])}"


def size(count: int) -> str:
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def save(result: dict[str, Any], out: Path) -> None:
    """Write <out>.json, a row a line, and <out>.md."""
    head = {key: value for key, value in result.items() if key != "rows"}
    rows = ",\n".join("  " + json.dumps(row) for row in result["rows"])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n{rows}\n ]\n}}\n')
    out.with_suffix(".md").write_text(table(result))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", nargs="+", default=["resnet20", "alexnet", "vit-block"])
    parser.add_argument("--batch", nargs="+", type=int, default=[128, 256])
    parser.add_argument("--devices", nargs="+", default=["H200", "A100", "RTX 4080"])
    parser.add_argument(
        "--build", type=Path, default=ROOT / "build/cudnn_plans", help="folder of the program"
    )
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md too")
    options = parser.parse_args()
    try:
        result = check(options.models, options.batch, options.devices, options.build)
    except CannotRun as reason:
        print(f"check_cudnn_plans: {reason}", file=sys.stderr)
        return 2
    print(table(result))
    if options.out:
        save(result, options.out)
    return 1 if result["without_plan"] else 0


if __name__ == "__main__":
    sys.exit(main())
