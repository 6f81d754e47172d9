"""Networks of torchvision and timm, converted: outputs and gradients in FP32 against float64.

    python benchmarks/from_torch.py [--images 2] [NETWORK ...]

Random weights, running statistics of ten batches of noise, images of 32x32, evaluation. Errors are the
largest difference over the largest value, of outputs and of the gradients of each parameter (the worst one),
where a gradient counts at least a hundredth of the largest. PyTorch's are its own in FP32. Needs PyTorch,
torchvision and timm.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import numpy as np
import timm
import torch
import torchvision

import fp16engine as fe
import fp16engine.torch as fet

NETWORKS = ("resnet18", "vgg16", "mobilenet_v2", "densenet121", "vit_tiny")
Results = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--images", type=int, default=2)
    arguments = parser.parse_args()
    print("| network | outputs, ours | PyTorch | gradients, ours | PyTorch |\n|---|---|---|---|---|")
    for name in arguments.networks:
        torch.manual_seed(0)
        if name == "vit_tiny":
            module = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=10)
        else:
            module = torchvision.models.get_model(name, num_classes=10)
        with torch.no_grad():
            for _ in range(10):
                module(torch.randn(8, 3, 32, 32))
        x = torch.randn(arguments.images, 3, 32, 32)
        model = fet.from_torch(module.eval(), x)
        exact = theirs(copy.deepcopy(module).double(), x.double())
        columns = [errors(found, exact) for found in (ours(model, x), theirs(module, x))]
        print(f"| {name} | " + " | ".join(f"{c[i]:.1e}" for i in (0, 1) for c in columns) + " |", flush=True)


def theirs(module: Any, x: torch.Tensor) -> Results:
    module.zero_grad()
    y = module(x)
    torch.nn.functional.cross_entropy(y, torch.arange(len(x))).backward()
    return {"": y.detach().numpy(), **{name: p.grad.numpy() for name, p in module.named_parameters()}}


def ours(model: fe.nn.Module, x: torch.Tensor) -> Results:
    model.eval().zero_grad()
    with fe.Precision.get("fp32+direct").use():
        y = model(fe.tensor(np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1))))
        fe.functional.cross_entropy(y, fe.tensor(np.arange(len(x)))).backward()
    for parameter in model.parameters():  # names and layouts are the state's
        assert parameter.grad is not None
        parameter.data = parameter.grad.data
    return {"": y.numpy(), **fe.interop.to_torch_state(model)}


def errors(found: Results, exact: Results) -> tuple[float, float]:
    largest = max(float(np.abs(values).max()) for name, values in exact.items() if name)
    each = {
        name: float(np.abs(found[name] - values).max())
        / max(float(np.abs(values).max()), largest / 100 if name else 0.0)
        for name, values in exact.items()
    }
    return each.pop(""), max(each.values())


if __name__ == "__main__":
    main()
