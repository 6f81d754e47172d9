"""Clipping gradients by their common norm, and several batches for one update."""

import fp16engine as fe

# Gradients of a large norm throw a network off; clipping keeps their direction.
data = fe.data.digits().limit(512)

for clip_norm in (None, 0.5):
    model = fe.models.create("dnn", image_size=8, channels=1)
    # The norm of all gradients together is summed in FP32 under every policy,
    # because a single 300^2 would be infinite in FP16.
    trainer = fe.Trainer(model, precision="fp16", lr=0.1, clip_norm=clip_norm)
    history = trainer.fit(data, epochs=2, batch_size=64, progress=False)
    print(f"clip_norm={clip_norm}: {history.epochs[-1].test_accuracy:.1%} of the test images")

# Four batches of 16 are one update: the memory of 16 images, the step of 64.
model = fe.models.create("dnn", image_size=8, channels=1)
trainer = fe.Trainer(model, precision="fp16", lr=0.1, clip_norm=0.5, accumulate=4)
history = trainer.fit(data, epochs=2, batch_size=16, progress=False)
print(f"accumulate=4: {trainer.applied_steps} updates, {history.epochs[-1].test_accuracy:.1%}")
