"""Freezing: parameters with requires_grad=False are not trained, not decayed, and have no optimizer state."""

import fp16engine as fe

data = fe.data.digits().limit(256)
model = fe.models.create("resnet8", image_size=8, channels=1).to("cpu", "fp16")
last = list(model.named_parameters())[-2:]  # weight and bias of the last layer

model.requires_grad_(False)
for _, parameter in last:
    parameter.requires_grad = True

before = model.state_dict()
trainer = fe.Trainer(model, precision="fp16", optimizer="adam", lr=1e-2, weight_decay=1e-3)
trainer.fit(data, epochs=2, batch_size=32, progress=False)

parameters = dict(model.named_parameters())
changed = [name for name in parameters if (parameters[name].numpy() != before[name]).any()]
print("trained:", *changed)
print(f"{len(trainer.state.frozen)} tensors frozen, optimizer state for {len(trainer.optimizer.params)}")
