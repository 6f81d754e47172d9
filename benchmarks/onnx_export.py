"""Every network as an ONNX graph, in FP32 and FP16: classes and outputs of onnxruntime against ours.

    python benchmarks/onnx_export.py [--images 1000] [NETWORK ...]

The images are digits, enlarged to 32x32 in three channels; the networks are untrained, with running
statistics of 480 of the images. `near ties` are images whose two largest outputs differ by less than twice
the largest difference. Needs onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import fp16engine as fe
from fp16engine.interop.onnx_out import checked

SIZE, BATCH = 32, 40
POLICIES = {"float32": "fp32", "float16": "fp16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", default=fe.models.names(), metavar="NETWORK")
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    x = digits(arguments.images)
    print(
        "| network | dtype | same class | near ties | largest difference | ulp |\n|---|---|---|---|---|---|"
    )
    for name in arguments.networks:
        for dtype, policy in POLICIES.items():
            print(row(name, dtype, policy, x), flush=True)


def digits(count: int) -> np.ndarray:
    data = fe.data.digits()
    images = np.concatenate([data.train.images, data.test.images])[:count]
    images = images.repeat(SIZE // 8, 1).repeat(SIZE // 8, 2).repeat(3, 3).astype(np.float32)
    return (images - images.mean()) / images.std()


def row(name: str, dtype: str, policy: str, x: np.ndarray) -> str:
    model = fe.models.create(name, image_size=SIZE).to("cpu", "fp32")
    with fe.no_grad(), fe.Precision.get("fp32").use():
        for at in range(0, 480, BATCH):
            model(fe.tensor(x[at : at + BATCH]))
    model.to("cpu", policy).eval()
    given = x.astype(dtype)
    with fe.no_grad(), fe.Precision.get(policy).use():
        y = np.concatenate(
            [model(fe.tensor(given[at : at + BATCH])).numpy() for at in range(0, len(x), BATCH)]
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        fe.interop.to_onnx(model, path, SIZE, dtype)
        found = checked(path, given, y)
    second, first = np.sort(y.astype(np.float64), axis=1)[:, -2:].T
    ties = int((first - second < 2 * found.difference).sum())
    cells = (f"{found.same_class} of {found.images}", ties, f"{found.difference:.2g}", f"{found.ulp:.3g}")
    return f"| {name} | {dtype} | {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
