"""A training loop written by hand, all in FP16: forward, backward, clip, step."""

import fp16engine as fe
from fp16engine import functional as F

data = fe.data.digits().limit(512)
images, labels = fe.tensor(data.normalised("train", "float16")), fe.tensor(data.train.labels)
model = fe.models.create("dnn", image_size=8, channels=1).to("cpu", "fp16")
# A precision with another update than the nearest number is named here, too: update=precision.update.
optimizer = fe.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

# The precision says what operations store, and what their sums accumulate in.
with fe.Precision.get("fp16").use():
    for start in [*range(0, 512, 64)] * 5:  # five epochs of eight batches
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[start : start + 64]), labels[start : start + 64])
        loss.backward()
        fe.optim.clip_global_norm(model.parameters(), 5.0)
        optimizer.step()
    answers = model.eval()(fe.tensor(data.normalised("test", "float16"))).argmax(axis=1)
print(f"{(answers.numpy() == data.test.labels).mean():.1%} of the test images")
