"""Arrays of your own: uint8 images (N, H, W, C) and labels, numbers or names."""

import numpy as np

import fp16engine as fe

rng = np.random.default_rng(0)
y = rng.choice(["dark", "light"], 200)
x = rng.integers(0, 128, (200, 8, 8, 3)).astype(np.uint8)
x[y == "light"] += 100

data = fe.data.Dataset.from_arrays(x, y, test=0.25)  # a quarter of every class is the test part
print(data)
model = fe.models.create("dnn", num_classes=len(data.classes), image_size=8, channels=3)
trainer = fe.Trainer(model, precision="fp16", lr=0.05)
history = trainer.fit(data, epochs=3, batch_size=25, progress=False)
print(f"{history.epochs[-1].test_accuracy:.1%} of the test images")

# fit takes the pair itself, and batches of a generator or a PyTorch DataLoader, too.
again = fe.Trainer(fe.models.create("dnn", num_classes=2, image_size=8), lr=0.05)
print(f"{again.fit((x, y), epochs=3, batch_size=25, progress=False).epochs[-1].test_accuracy:.1%}")
