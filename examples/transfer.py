"""Transfer: a network trained on seven classes starts one of three others; its head is new, and first."""

import tempfile

import fp16engine as fe

digits = fe.data.digits()
x, y = digits.train.images, digits.train.labels
small = {"image_size": 8, "channels": 1}

with tempfile.TemporaryDirectory() as run:
    source = fe.models.create("resnet8", 10, **small)
    fe.Trainer(source, "fp16", lr=0.05).fit((x[y < 7][:400], y[y < 7][:400]), 2, 50, out=run, progress=False)
    model = fe.models.create("resnet8", 3, weights=run, **small)
print("new:", *model.new_tensors)

# Few images of the classes 7, 8 and 9, which the first network has never seen.
images, labels = x[y >= 7][:150], y[y >= 7][:150] - 7

for name, parameter in model.named_parameters():
    parameter.requires_grad = name in model.new_tensors
head = fe.Trainer(model, "fp16", lr=0.05).fit((images, labels), 5, 30, progress=False)
print(f"the head alone: {head.epochs[-1].test_accuracy:.1%}")

model.requires_grad_()
whole = fe.Trainer(model, "fp16", lr=0.02).fit((images, labels), 5, 30, progress=False)
print(f"then everything: {whole.epochs[-1].test_accuracy:.1%}")
