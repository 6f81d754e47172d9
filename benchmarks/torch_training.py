"""Half-precision parameters of PyTorch trained by our AdamW and by PyTorch's: a small GPT and ResNet-18.

    python benchmarks/torch_training.py [--tasks gpt,resnet18] [--seeds 3] [--threads 2]

The GPT (character by character, on this repository's documents) and ResNet-18 (on `digits`) keep parameters,
gradients and optimizer state in half precision. Products are computed in FP32 from half weights, because
PyTorch's FP16 products on a processor take many times longer: what differs from run to run is the optimizer.
Losses are of data that was not trained on; a run that has become NaN stops. Needs PyTorch.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import fp16engine as fe
import fp16engine.torch as fet

ROOT = Path(__file__).parent.parent
CONTEXT, WIDTH, HEADS, BLOCKS, BATCH = 32, 64, 4, 2, 16
Batches = Callable[[torch.Generator], tuple[torch.Tensor, torch.Tensor]]

CONTENDERS: dict[str, tuple[torch.dtype, Callable[..., Any]]] = {
    "torch AdamW, FP32": (torch.float32, torch.optim.AdamW),
    "ours, half, stochastic": (torch.float16, fet.AdamW),
    "ours, half, nearest": (torch.float16, lambda p, **o: fet.AdamW(p, update="nearest", **o)),
    "torch AdamW, half": (torch.float16, torch.optim.AdamW),
    "torch AdamW, half, eps 1e-4": (torch.float16, lambda p, **o: torch.optim.AdamW(p, eps=1e-4, **o)),
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        heads = self.qkv(self.norm1(x)).view(n, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, t, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(symbols, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, symbols)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x))).transpose(1, 2)


class Basic(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        stride = 1 if before == width else 2
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.shortcut = nn.Identity() if before == width else shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet18(classes: int) -> nn.Module:
    widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
    blocks = [Basic(a, b) for a, b in pairwise(widths)]
    stem = [nn.Conv2d(1, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def gpt_task() -> tuple[Callable[[], nn.Module], Batches, tuple[torch.Tensor, torch.Tensor], float]:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    symbols = sorted(set(text))
    ids = torch.tensor([symbols.index(c) for c in text])
    split = len(ids) * 9 // 10

    def windows(starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = ids[starts[:, None] + torch.arange(CONTEXT + 1)]
        return x[:, :-1], x[:, 1:]

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return windows(torch.randint(split - CONTEXT - 1, (BATCH,), generator=generator))

    held_out = windows(torch.arange(split, len(ids) - CONTEXT - 1, CONTEXT)[:256])
    return lambda: GPT(len(symbols)), batch, held_out, 3e-3


def resnet_task() -> tuple[Callable[[], nn.Module], Batches, tuple[torch.Tensor, torch.Tensor], float]:
    digits = fe.data.digits()

    def arrays(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(digits.normalised(split, "float32")).permute(0, 3, 1, 2).contiguous()
        return images, torch.from_numpy(getattr(digits, split).labels)

    x, y = arrays("train")

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        return x[chosen], y[chosen]

    return lambda: resnet18(10), batch, arrays("test"), 1e-3


TASKS = {"gpt": (gpt_task, 300), "resnet18": (resnet_task, 100)}  # and their steps


def train(task: Any, dtype: torch.dtype, make: Callable[..., Any], seed: int, steps: int) -> dict[str, Any]:
    """Return the loss and the accuracy on held-out data after training, and the seconds it took."""
    build, batch, (x_test, y_test), lr = task
    torch.manual_seed(seed)
    model = build()
    weights = {name: nn.Parameter(p.detach().to(dtype)) for name, p in model.named_parameters()}
    optimizer = make(list(weights.values()), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)

    def logits(x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, {name: p.float() for name, p in weights.items()}, (x,))

    start = time.perf_counter()
    for step in range(steps):
        x, y = batch(generator)
        optimizer.zero_grad()
        loss = F.cross_entropy(logits(x), y)
        if not math.isfinite(loss.item()):
            return {"loss": None, "accuracy": None, "nan_at_step": step}
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - start
    model.eval()
    with torch.no_grad():
        found = logits(x_test)
    loss = F.cross_entropy(found, y_test).item()
    right = (found.argmax(1) == y_test).float().mean().item()
    return {"loss": loss if math.isfinite(loss) else None, "accuracy": right, "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="instead of each task's own")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {"torch": torch.__version__}
    for name in arguments.tasks.split(","):
        make, own = TASKS[name]
        task, steps = make(), arguments.steps or own
        runs = {
            contender: [train(task, *how, seed, steps) for seed in range(arguments.seeds)]
            for contender, how in CONTENDERS.items()
        }
        result[name] = {"steps": steps, "runs": runs}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
