"""Weights that PyTorch trained, in a network of this engine: by name from a file, then trained on in FP16."""

import tempfile
from pathlib import Path

import numpy as np

import fp16engine as fe


def network(nn, **norm):
    """Layers under the same names in PyTorch and here; pooled to a pixel, so Flatten has one order."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32, **norm), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def trained(torch, x, y):
    """A network that PyTorch trains in FP32, on images (N, 1, H, W)."""
    torch.manual_seed(0)
    net = network(torch.nn)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for batch in torch.randperm(len(x))[:1400].view(28, 50).repeat(3, 1):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()
    return net.eval()


def main():
    try:
        import torch

        import fp16engine.torch as fet
    except ImportError:
        print("This example needs PyTorch: pip install torch")
        return
    data = fe.data.digits()
    images = data.normalised("train", "float32")
    theirs = trained(torch, torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(data.train.labels))

    ours = network(fe.nn, momentum=0.9, eps=1e-5)  # PyTorch's defaults
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder, "net.pt"))
        fet.load_state(ours, Path(folder, "net.pt"))  # or fe.interop.from_torch_state(ours, arrays)
    ours.eval()

    x = data.normalised("test", "float32")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    print(f"the same outputs: {np.allclose(ours(fe.tensor(x)).numpy(), expected, atol=1e-3)}")
    before = (expected.argmax(axis=1) == data.test.labels).mean()
    history = fe.Trainer(ours, "fp16", lr=0.01).fit(data, 3, 50, progress=False)
    print(f"PyTorch, FP32: {before:.1%}, then here, FP16: {history.epochs[-1].test_accuracy:.1%}")


main()
