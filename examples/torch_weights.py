"""Weights that PyTorch trained, in a network of this engine, then trained on in FP16 (needs PyTorch)."""

import torch

import fp16engine as fe
import fp16engine.torch as fet


def network(nn):
    """Return layers of the same names in both; the kernel covers the image, so Flatten has one order."""
    return nn.Sequential(nn.Conv2d(1, 64, 8, padding=0), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))


data, theirs, ours = fe.data.digits(), network(torch.nn), network(fe.nn)
x, y = torch.from_numpy(data.normalised("train", "float32")), torch.from_numpy(data.train.labels)
optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01)
for _ in range(30):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(theirs(x.permute(0, 3, 1, 2)), y).backward()
    optimizer.step()

fet.load_state(ours, theirs.state_dict())  # or a path; fe.interop.from_torch_state takes NumPy arrays
print(f"PyTorch's weights, here in FP32: {fe.Trainer(ours, 'fp32').evaluate(data)[0]:.1%}")
fe.Trainer(ours, "fp16", lr=0.01).fit(data, epochs=3, batch_size=50)  # prints the accuracy of every epoch
