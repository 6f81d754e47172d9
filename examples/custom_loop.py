"""A training loop written by hand, all in FP16: forward, backward, clip, step."""

import fp16engine as fe
from fp16engine import functional as F

fe.manual_seed(0)
data = fe.data.digits().limit(512)
images, labels = data.normalised("train", "float16"), data.train.labels
precision = fe.Precision.get("fp16")  # what tensors are stored in, and what sums accumulate in
model = fe.models.create("dnn", image_size=8, channels=1).to("cpu", precision)
optimizer = fe.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, update=precision.update)

for epoch in range(3):
    total = 0.0
    for start in range(0, len(labels), 64):
        x, y = fe.tensor(images[start : start + 64]), fe.tensor(labels[start : start + 64])
        with precision.use():
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            fe.optim.clip_global_norm(model.parameters(), 5.0)
            optimizer.step()
        optimizer.zero_grad()
        total += loss.item() * len(y.numpy())
    print(f"epoch {epoch + 1}: loss {total / len(labels):.3f}")

model.eval()
with fe.no_grad(), precision.use():
    answers = model(fe.tensor(data.normalised("test", "float16"))).argmax(axis=1).numpy()
print(f"{(answers == data.test.labels).mean():.1%} of the test images")
