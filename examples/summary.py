"""A table of a network's layers, one of your own: shapes, parameters, what is frozen."""

import fp16engine as fe
from fp16engine import nn


class Net(nn.Module):
    """Two blocks and a head; modules in attributes and in a ModuleList are found."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([self.block(1, 16), self.block(16, 32)])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

    def block(self, inputs: int, outputs: int) -> nn.Module:
        """Return convolution, group norm, SiLU, pooling."""
        convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding="same")
        return nn.Sequential(convolution, nn.GroupNorm(4, outputs), nn.SiLU(), nn.MaxPool2d(2))

    def forward(self, x: fe.Tensor) -> fe.Tensor:
        """Return logits (N, 10) of images (N, 8, 8, 1)."""
        for block in self.blocks:
            x = block(x)
        return self.head(x)


fe.manual_seed(0)
model = Net()
model.blocks[0].requires_grad_(False)
print(model.summary((8, 8, 1)))  # (H, W, C), without the batch
trainer = fe.Trainer(model, precision="fp16", optimizer="adam", lr=0.01)
history = trainer.fit(fe.data.digits().limit(512), epochs=3, batch_size=32, progress=False)
print(f"{history.epochs[-1].test_accuracy:.1%} of the test images")
