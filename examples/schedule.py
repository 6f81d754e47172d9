"""A learning-rate schedule, an optimizer and a callback of your own."""

import math

import fp16engine as fe


def restarts(step: int, steps: int) -> float:
    """Return the factor on the rate: two cosines, one after the other; `step` counts applied steps."""
    return 0.5 * (1 + math.cos(math.pi * (2 * step / steps % 1)))


def optimizer(parameters: list[fe.Tensor]) -> fe.optim.Optimizer:
    """Return any `Optimizer` of these parameters; the rate is the schedule's times this one's."""
    return fe.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)


class Rate(fe.train.Callback):
    """Says the rate of every step."""

    def on_step(self, trainer: fe.Trainer, result: fe.train.StepResult) -> None:
        print(f"step {trainer.step_count}: rate {trainer.optimizer.lr:.1e}, loss {result.loss:.2f}")


model = fe.models.create("dnn", image_size=8, channels=1)
trainer = fe.Trainer(model, "fp16", optimizer=optimizer, schedule=restarts, callbacks=[Rate()])
history = trainer.fit(fe.data.digits().limit(512), epochs=2, batch_size=64, progress=False)
print(f"{history.epochs[-1].test_accuracy:.1%} of the test images")
