"""A table of a network's layers, one of your own: shapes, parameters, what is frozen."""

import fp16engine as fe
from fp16engine import nn


class Net(nn.Module):
    """Frozen filters and a head; modules in attributes are found, in a ModuleList or ModuleDict too."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, 64, kernel_size=3, padding="same").requires_grad_(False)
        self.head = nn.Sequential(nn.GroupNorm(4, 64), nn.SiLU(), nn.Flatten(), nn.Linear(4096, 10))

    def forward(self, x: fe.Tensor) -> fe.Tensor:
        """Return logits (N, 10) of images (N, 8, 8, 1)."""
        return self.head(self.filters(x))


fe.manual_seed(0)
model = Net()
print(model.summary((8, 8, 1)))  # (H, W, C), without the batch
trainer = fe.Trainer(model, precision="fp16", optimizer="adam", lr=1e-3)
history = trainer.fit(fe.data.digits().limit(512), epochs=3, batch_size=32, progress=False)
print(f"{history.epochs[-1].test_accuracy:.1%} of the test images")
