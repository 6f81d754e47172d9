"""Transfer: a network trained on seven classes starts one of three others; its head is new, and first."""

import tempfile

import fp16engine as fe

digits, small = fe.data.digits().train, {"image_size": 8, "channels": 1}
x, y = digits.images, digits.labels

with tempfile.TemporaryDirectory() as run:
    source = fe.Trainer(fe.models.create("resnet8", 10, **small), "fp16", lr=0.05)
    source.fit((x[y < 7][:400], y[y < 7][:400]), 2, 50, out=run, progress=False)
    model = fe.models.create("resnet8", 3, weights=run, **small)

# Few images of the classes 7, 8 and 9, which the first network has never seen.
few = x[y >= 7][:150], y[y >= 7][:150] - 7

for name, parameter in model.named_parameters():
    parameter.requires_grad = name in model.new_tensors  # weight and bias of the head
head = fe.Trainer(model, "fp16", lr=0.05).fit(few, 5, 30, progress=False).epochs[-1]
model.requires_grad_()
whole = fe.Trainer(model, "fp16", lr=0.02).fit(few, 5, 30, progress=False).epochs[-1]
print(f"the head alone: {head.test_accuracy:.1%}, then everything: {whole.test_accuracy:.1%}")
