"""Ask cuDNN, without a GPU, for a plan of every graph that the models' training steps need on a GPU.

    python -m venv plans && . plans/bin/activate
    pip install numpy safetensors rich && pip install --no-deps -r benchmarks/requirements-cudnn-plans.txt
    PYTHONPATH=. python benchmarks/check_cudnn_plans.py --out benchmarks/results/cudnn_plans

Shapes come from a recorded training step of each model (batch 1, on the CPU or the reference backend), the
graphs from the header the CUDA module itself uses, plans from the real cuDNN, told about the device instead
of finding one: it validates a graph, applies the policy's filters, selects engines and compiles the first
plan for the architecture. A graph that several models build is asked for once. Nothing is executed: a plan
proves support and workspace, not results or speed.
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
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fp16engine as fe
from fp16engine.backend.gpu import cuda_libraries
from fp16engine.observer import BackendCall, observe

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
PROGRAM = "cudnn_plans"

# What the policies ask of a graph: their names, the stored type, the compute type.
POLICIES = (
    ("fp16, mp", "float16", "float32"),
    ("fp16-strict", "float16", "float16"),
    ("fp32", "float32", "float32"),
    ("tf32", "float32", "tf32"),
)
CONV_PASSES = ("forward", "data gradient", "weight gradient")

Graph = dict[str, Any]  # "graph", "shape", ... as csrc/testing/cudnn_plans.cpp reads it


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

    def __call__(self, call: BackendCall) -> Any:
        record = getattr(self, f"_{call.op}", None)
        result = call.run()
        if record is not None:
            record(call.named_arguments(), result)
        return result

    def _conv(self, call: dict[str, Any], y: Any, passes: Sequence[str], bias: bool) -> None:
        (n, h, w, c), (k, r, s, _) = call["x"].shape, call["w"].shape
        shape = [n, h, w, c, k, r, s, y.shape[1], y.shape[2], *call["stride"], *call["pads"], call["groups"]]
        for which in passes:
            self.graphs.append({"graph": "convolution", "pass": which, "shape": shape, "bias": bias})

    def _conv2d_forward(self, call: dict[str, Any], y: Any) -> None:
        self._conv(call, y, ["forward"], call["b"] is not None)

    def _conv2d_backward(self, call: dict[str, Any], _: Any) -> None:
        expected = [p for p, needed in zip(CONV_PASSES[1:], call["needs"][:2], strict=True) if needed]
        self._conv(call, call["dy"], expected, False)

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
        with observe(recorder):
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
        + (f" groups {n[15]}" if n[15] > 1 else "")
        + (f" pads {','.join(map(str, pads))}" if len(set(pads)) > 1 else "")
        + f", {graph['pass']}"
        + (" + bias" if graph["bias"] else "")
    )


# --- the program that asks cuDNN ---------------------------------------------------------------------------


def build(folder: Path) -> tuple[Path, Path]:
    """Compile the program and the fake driver, unless they are newer than their sources."""
    folder.mkdir(parents=True, exist_ok=True)
    program, driver = folder / PROGRAM, folder / "libcuda.so.1"
    sources = [
        CSRC / "testing" / f"{PROGRAM}.cpp",
        *(CSRC / "cuda").glob("*.h"),
        *(CSRC / "common").glob("*.h"),
    ]
    if not program.exists() or program.stat().st_mtime < max(s.stat().st_mtime for s in sources):
        print("compiling the program that asks cuDNN, about a minute ...", file=sys.stderr, flush=True)
        headers = runpy.run_path(str(ROOT / "cmake" / "nvidia_folders.py"))["headers"]()
        includes = [argument for folder in headers for argument in ("-isystem", str(folder))]
        compiler = [os.environ.get("CXX", "c++"), "-std=c++17", "-O0", f"-I{CSRC}", *includes]
        run_compiler([*compiler, str(sources[0]), "-ldl", "-o", str(program)])
    stub = CSRC / "testing" / "stub_driver.c"
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
    """Files to open, in order: the fake takes the driver's name, so that nobody looks for another."""
    found = cuda_libraries.find()
    missing = [name for name, file in found.items() if file is None]
    if missing:
        raise CannotRun(
            f"{', '.join(missing)} not found; "
            "pip install --no-deps -r benchmarks/requirements-cudnn-plans.txt brings them"
        )
    return [str(driver), *(file.path for file in found.values() if file)]


def ask(command: list[str], requests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the program says of itself, then its answer to each request."""
    with tempfile.TemporaryFile("w+") as text, tempfile.TemporaryFile("w+") as errors:
        text.writelines(json.dumps(request) + "\n" for request in requests)
        text.seek(0)
        with subprocess.Popen(
            command, stdin=text, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as program:
            assert program.stdout is not None
            count = 0
            for count, line in enumerate(program.stdout, start=1):
                yield json.loads(line)
                if count % 500 == 0:
                    print(f"{count} of {len(requests)} graphs ...", file=sys.stderr, flush=True)
        if program.returncode or count != len(requests) + 1:
            errors.seek(0)
            reason = errors.read().strip()[-400:]
            raise CannotRun(f"{PROGRAM} ended with status {program.returncode}: {reason}")


# --- the check -------------------------------------------------------------------------------------------


def expected(names: Sequence[str], batch: int) -> list[dict[str, Any]]:
    """One row per distinct graph: what it is, how often a step of each model needs it, which policies ask."""
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        recorded = Counter(json.dumps(graph) for graph in record(name))
        for policy, dtype, compute in POLICIES:
            for text, times in recorded.items():
                for asked in served_by_cudnn(json.loads(text), dtype, compute):
                    # Scaled here, since a product of attention has its batch among its matrices.
                    if asked["pass"].startswith("attention "):
                        asked["shape"][0] *= batch
                    else:
                        asked = scaled(asked, batch)
                    row = rows.setdefault(
                        json.dumps(asked),
                        {"what": describe(asked), "models": {}, "plans": {}, "graph": asked},
                    )
                    row["plans"].setdefault(policy, [])
                    row["models"].setdefault(name, times)
    return list(rows.values())


def check(names: Sequence[str], batch: int, devices: Sequence[str], folder: Path) -> dict[str, Any]:
    """Record, ask and return the result: versions, and a row per distinct graph.

    A row's `plans` holds, per policy, an answer per device, in the order of `devices`.
    """
    known = json.loads((CSRC / "testing" / "devices.json").read_text())
    rows = expected(names, batch)
    program, driver = build(folder)
    command = [str(program), *libraries(driver)]
    requests, targets = [], []
    for device in devices:
        properties = {**known["all"], **known[device]["properties"]}
        for row in rows:
            for policy, dtype, compute in POLICIES:
                if policy in row["plans"]:
                    asked = {**row["graph"], "dtype": dtype, "compute": compute}
                    requests.append({"device": properties, "sm": known[device]["sm"], **asked})
                    targets.append(row["plans"][policy])
    answers = ask(command, requests)
    versions = next(answers)
    for plans, answer in zip(targets, answers, strict=True):
        plans.append(answer)
    every = [answer for plans in targets for answer in plans]
    return {
        "what": "cuDNN plans found without a GPU, from device properties",
        "cudnn": version(versions["cudnn"], 10000),
        "cudnn_frontend": version(versions["frontend"], 10000),
        "batch": batch,
        "models": list(names),
        "devices": [f"{device} (sm_{known[device]['sm']})" for device in devices],
        "graphs": len(rows),
        "asked": len(requests),
        "without_plan": sum(answer["plans"] == 0 for plans in targets for answer in plans) // len(devices),
        "largest_workspace": max((answer.get("workspace", 0) for answer in every), default=0),
        "rows": rows,
    }


def version(number: int, unit: int) -> str:
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: a summary per model and policy, then every graph on the first device."""
    devices, rows = result["devices"], result["rows"]
    policies = [policy for policy, _, _ in POLICIES]
    lines = [
        "# cuDNN plans without a GPU",
        "",
        f"cuDNN {result['cudnn']}, cudnn-frontend {result['cudnn_frontend']}: {result['graphs']} distinct "
        f"graphs of a training step of {len(result['models'])} models at batch {result['batch']}, each under "
        f"every policy that needs it and for {len(devices)} devices: {result['asked']} asked for, "
        f"{result['without_plan']} without a plan; largest workspace {size(result['largest_workspace'])}. "
        "Nothing was executed.",
        "",
        "## Summary: distinct graphs, fewest plans of one, largest workspace of a first plan",
        "",
        f"| model | policy | {' | '.join(devices)} |",
        "|---" * (2 + len(devices)) + "|",
    ]
    for name in result["models"]:
        for policy in policies:
            answers = [
                row["plans"][policy] for row in rows if name in row["models"] and policy in row["plans"]
            ]
            if answers:
                cells = " | ".join(summary(list(column)) for column in zip(*answers, strict=True))
                lines.append(f"| {name} | {policy} | {cells} |")
    without = [
        f"- {row['what']}, {policy}, {device}: {answer['reason'][:160]}"
        for row in rows
        for policy, answers in row["plans"].items()
        for device, answer in zip(devices, answers, strict=True)
        if answer["plans"] == 0
    ]
    if without:
        lines += ["", "## Without a plan", "", *without]
    lines += [
        "",
        f"## Every graph on {devices[0]}",
        "",
        "Cells: plans that the policy's filters leave, workspace of the first, which was built (* compiled "
        "at run time). The JSON next to this table has the other devices.",
        "",
        f"| graph | models | {' | '.join(policies)} |",
        "|---" * (2 + len(policies)) + "|",
    ]
    for row in rows:
        cells = " | ".join(cell(row["plans"][p][0]) if p in row["plans"] else "" for p in policies)
        lines.append(f"| {row['what']} | {shortly(list(row['models']))} | {cells} |")
    return "\n".join(lines) + "\n"


def shortly(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def summary(answers: list[dict[str, Any]]) -> str:
    none = sum(answer["plans"] == 0 for answer in answers)
    if none:
        return f"{len(answers)} graphs, **{none} without a plan**"
    fewest = min(answer["plans"] for answer in answers)
    return f"{len(answers)} graphs, >= {fewest} plans, {size(max(a['workspace'] for a in answers))}"


def cell(answer: dict[str, Any]) -> str:
    if answer["plans"] == 0:
        return "**none**"
    return f"{answer['plans']}{'*' if answer['compiled'] else ''}, {size(answer['workspace'])}"


def size(count: int) -> str:
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def compact(row: dict[str, Any]) -> dict[str, Any]:
    """A row for the file: an answer is [plans, workspace, compiled at run time], or the reason for none."""
    plans = {
        policy: [
            [answer["plans"], answer["workspace"], int(answer["compiled"])]
            if answer["plans"]
            else answer["reason"][:160]
            for answer in answers
        ]
        for policy, answers in row["plans"].items()
    }
    return {"what": row["what"], "shape": row["graph"]["shape"], "models": row["models"], "plans": plans}


def save(result: dict[str, Any], out: Path) -> None:
    """Write <out>.json, a row a line, and <out>.md."""
    head = {key: value for key, value in result.items() if key != "rows"}
    head["columns"] = {
        "shape": "N H W C K R S OH OW strides pads groups; of a product batch M N K; of attention B H S D",
        "models": "how often a training step of each model needs the graph",
        "plans": "per policy, per device: plans left by the filters, workspace of the first, 1: compiled",
    }
    rows = ",\n".join("  " + json.dumps(compact(row), separators=(",", ":")) for row in result["rows"])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n{rows}\n ]\n}}\n')
    out.with_suffix(".md").write_text(table(result))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--models", nargs="+", default=[*fe.models.names(), "vit-block"], help="default: all, and a ViT block"
    )
    parser.add_argument("--batch", type=int, default=256, help="images per step (default: 256)")
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
