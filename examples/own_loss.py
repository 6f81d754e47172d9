"""A loss of your own: focal loss (Lin et al., 2017, arXiv 1708.02002), from operations of tensors."""

import numpy as np

import fp16engine as fe
from fp16engine import functional as F


def focal(logits: fe.Tensor, labels: fe.Tensor) -> fe.Tensor:
    """Return the mean of -(1 - p)^2 log p, p the probability of the right class."""
    rows = np.arange(len(labels))
    log_p = F.log_softmax(logits, axis=1)[rows, labels.numpy()]
    return (-((1.0 - F.exp(log_p)) ** 2) * log_p).mean()


data = fe.data.digits().limit(512)
model = fe.models.create("dnn", image_size=8, channels=1)
trainer = fe.Trainer(model, precision="fp16", lr=0.05, loss=focal)
history = trainer.fit(data, epochs=3, batch_size=64, progress=False)
accuracy, loss = trainer.evaluate(data)  # of the focal loss, too
print(f"focal loss {loss:.3f}, {accuracy:.1%} of the test images")
