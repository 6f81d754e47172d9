"""The airbench94 recipes in PyTorch FP32: the peer of `fp16engine train --recipe NAME`.

    python benchmarks/airbench_torch.py --data image_folder --data-dir DIR [--recipe airbench94] [--threads 2]

Both start from the same weights and see the same augmented images in the same order: data, initial network,
whitening filters, batches, schedule and all numbers of the recipe come from fp16engine; forward, backward,
norms, SGD, Muon and lookahead are PyTorch's. Options are those of `train`: --epochs, --batch-size, --limit,
--seed. Prints a line per epoch and, last, one JSON document with accuracies and training seconds (without
evaluation, as `train` counts them).

Needs PyTorch next to fp16engine. Running averages of the norms start as PyTorch's do, at 0 and 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import fp16engine as fe
from fp16engine.cli import defaults, options
from fp16engine.models.airbench import SCALE, Airbench94
from fp16engine.optim.muon import COEFFICIENTS, hidden_matrices
from fp16engine.train import Refinements, TrainConfig, recipes, schedule
from fp16engine.train.batches import ImageFeed
from fp16engine.train.lookahead import BASE
from fp16engine.train.views import views

Tensor = Any


class ConvGroup(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding="same", bias=False)
        self.norm1 = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
        self.conv2 = nn.Conv2d(width, width, 3, padding="same", bias=False)
        self.norm2 = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Net(nn.Module):
    """`models.airbench.Airbench94` with its values; parameters by the same paths, norms' but for their
    names."""

    def __init__(self, ours: Airbench94) -> None:
        super().__init__()
        filters, _, _, channels = ours.whitening.weight.shape
        self.whitening = nn.Conv2d(channels, filters, 2)
        widths = [group.conv1.weight.shape[0] for group in ours.groups]
        pairs = zip([filters, *widths], widths, strict=False)
        self.groups = nn.ModuleList(ConvGroup(channels, width) for channels, width in pairs)
        classes, inputs = ours.head.weight.shape
        self.head = nn.Linear(inputs, classes, bias=False)
        own = self.state_dict()
        for name, value in ours.state_dict().items():
            path = name.replace("gamma", "weight").replace("beta", "bias")
            if path in own and value.dtype == np.float32:
                kernel = value.transpose(0, 3, 1, 2) if value.ndim == 4 else value
                own[path].copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        self.whitening.weight.requires_grad = False
        for group in self.groups:
            for norm in (group.norm1, group.norm2):
                norm.weight.requires_grad = False
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.whitening(x))
        for group in self.groups:
            x = group(x)
        x = F.max_pool2d(x, 3).permute(0, 2, 3, 1).flatten(1)
        return self.head(x) * SCALE

    def trained(self) -> list[tuple[str, Tensor]]:
        """Parameters by the names they have in fp16engine."""
        pairs = ((name, p) for name, p in self.named_parameters() if p.requires_grad)
        return [(name.replace("bias", "beta") if ".norm" in name else name, p) for name, p in pairs]


class Muon(torch.optim.Optimizer):
    """Nesterov momentum made orthogonal, of weights that are scaled to the norm sqrt(rows) or not."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float, steps: int, unit_rows: bool
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps, "unit_rows": unit_rows})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                m = state["momentum"] = (
                    state.get("momentum", torch.zeros_like(p)) * group["momentum"] + p.grad
                )
                x = (p.grad + group["momentum"] * m).reshape(len(p), -1)
                x = x / x.norm().clamp(min=torch.finfo(x.dtype).tiny)
                a, b, c = COEFFICIENTS
                tall = x.shape[0] > x.shape[1]
                x = x.T if tall else x
                for _ in range(group["steps"]):
                    product = x @ x.T
                    x = a * x + (b * product + c * product @ product) @ x
                x = x.T if tall else x
                if group["unit_rows"]:
                    p.mul_(len(p) ** 0.5 / p.norm())
                rows = len(p)
                p.sub_(x.reshape(p.shape), alpha=group["lr"] * math.sqrt(max(1.0, rows * rows / p.numel())))


def optimizers(net: Net, config: TrainConfig, own: Refinements) -> list[Any]:
    """SGD with a group for each rate, and Muon for the matrices where the recipe says so."""
    names, params = zip(*net.trained(), strict=True)
    muon = config.optimizer == "muon"
    hidden = hidden_matrices([tuple(p.shape) for p in params]) if muon else [False] * len(params)
    momentum = own.sgd_momentum if muon and own.sgd_momentum is not None else config.momentum
    rates: dict[float, list[Tensor]] = {}
    for name, p, matrix in zip(names, params, hidden, strict=True):
        if not matrix:
            rates.setdefault(own.factor(name), []).append(p)
    groups = [
        {"params": ps, "lr": config.lr * factor, "weight_decay": config.weight_decay / factor}
        for factor, ps in rates.items()
    ]
    made: list[Any] = [torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=config.nesterov)]
    if muon:
        matrices = [p for p, matrix in zip(params, hidden, strict=True) if matrix]
        made.append(Muon(matrices, config.lr, config.momentum or 0.0, own.muon_steps, own.unit_rows))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["factor"] = group["lr"] / config.lr
    return made


class Lookahead:
    """Slow averages of all floating-point values of a network, running statistics included."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._slow = {name: value.clone() for name, value in self._values()}

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name, value in self._net.state_dict().items() if value.is_floating_point())

    def pull(self, share: float) -> None:
        for name, value in self._values():
            value.copy_(self._slow[name].lerp_(value, 1 - share))


def images(batch: np.ndarray) -> Tensor:
    """A batch (N, H, W, C) as PyTorch takes it; the memory stays as it is (channels last)."""
    return torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(net: Net, feed: ImageFeed, name: str, batch_size: int = 1024) -> float:
    """Share of the test images whose logits, averaged over the views, are largest for their label."""
    net.eval()
    correct = 0
    for batch, labels in feed.test.in_order(batch_size):
        total = sum(weight * net(images(view)).double() for weight, view in views(batch, name))
        correct += int((total.argmax(1).numpy() == labels).sum())  # type: ignore[union-attr]
    return correct / len(feed.test)


def train(net: Net, feed: ImageFeed, config: TrainConfig, epochs: int, seed: int) -> dict[str, Any]:
    """The epochs of the recipe; what came of them as JSON values."""
    own = config.refinements or Refinements()
    total, done, seconds, rows = epochs * feed.steps, 0, 0.0, []
    rate, made = schedule.get(config.schedule, config.lr, total), optimizers(net, config, own)
    slow = Lookahead(net) if own.lookahead else None
    for epoch in range(epochs):
        for name, p in net.trained():
            p.requires_grad = own.trains(name, epoch)
        order, losses = feed.order(seed, epoch), []
        net.train()
        for step in range(feed.steps):
            start = time.perf_counter()
            batch, labels = feed.batch(order, step)
            loss = F.cross_entropy(
                net(images(batch)), torch.from_numpy(labels), label_smoothing=config.label_smoothing
            )
            for optimizer in made:
                optimizer.zero_grad(set_to_none=True)
                for group in optimizer.param_groups:
                    group["lr"] = rate(done) * group["factor"]
            loss.backward()
            for optimizer in made:
                optimizer.step()
            done += 1
            if slow is not None and done % own.lookahead == 0:
                slow.pull(BASE**own.lookahead * (done / total) ** 3)
            losses.append(float(loss.detach()) * len(labels))
            seconds += time.perf_counter() - start
        if slow is not None and done == total:
            slow.pull(1.0)
        row = {
            "epoch": epoch + 1,
            "train_loss": sum(losses) / len(feed.train),
            "test_accuracy": accuracy(net, feed, "none"),
            "seconds": seconds,
        }
        rows.append(row)
        print(
            f"epoch {epoch + 1}/{epochs}  loss {row['train_loss']:.4f}  test {row['test_accuracy']:.1%}  "
            f"{seconds:.1f} s",
            flush=True,
        )
    return {
        "test_accuracy": rows[-1]["test_accuracy"],
        "views_accuracy": accuracy(net, feed, own.views),
        "train_seconds": seconds,
        "images_per_second": epochs * len(feed.train) / seconds,
        "history": rows,
    }


def asked() -> argparse.Namespace:
    """The command line, with the recipe's values where it says nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", choices=recipes.names(), default="airbench94")
    options.add_data(parser, None)
    options.add_training(parser)
    parser.add_argument("--threads", type=options.whole(1), default=os.cpu_count())
    arguments = parser.parse_args()
    arguments.precision = "fp32"
    defaults.fill(arguments)
    return arguments


def main() -> None:
    arguments = asked()
    torch.set_num_threads(arguments.threads)
    dataset = options.load_data(arguments)
    ours = options.make_model(arguments, dataset)
    assert isinstance(ours, Airbench94)
    config = options.train_config(arguments)
    net = Net(ours)
    trainer = fe.Trainer.of(ours, "fp32", config, "cpu", arguments.seed)
    feed = trainer.feed(dataset, arguments.batch_size)
    result = train(net, feed, config, arguments.epochs, arguments.seed)
    run = {
        "recipe": arguments.recipe,
        "torch": torch.__version__,
        "precision": "fp32",
        "seed": arguments.seed,
    }
    sizes = {"epochs": arguments.epochs, "batch_size": arguments.batch_size, "threads": arguments.threads}
    print(json.dumps({**run, **sizes, **result}, indent=1))


if __name__ == "__main__":
    main()
