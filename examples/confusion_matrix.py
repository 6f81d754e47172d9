"""Which class is taken for which, and the accuracy of each class."""

import tempfile

import fp16engine as fe

data = fe.data.digits().limit(512)
model = fe.models.create("dnn", num_classes=10, image_size=8, channels=1)

with tempfile.TemporaryDirectory() as run:
    fe.Trainer(model, precision="fp16", lr=0.1).fit(data, epochs=3, batch_size=64, out=run, progress=False)
    result = fe.load(run).evaluate(data)  # or the test part of any data set of these classes

print("rows: the class of the image, columns: what it was taken for")
print(result.confusion)
for name, images, accuracy in result.per_class():
    print(f"{name}: {images} images, {accuracy:.1%}")
print(f"all: {result.accuracy:.1%}")
wrong = result.confusion.sum() - result.confusion.trace()
print(f"{wrong} of {result.counts.sum()} images taken for another class")
