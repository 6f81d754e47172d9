"""What a trained network says of one image: a file, a PIL image, or uint8 pixels of any size."""

import tempfile

import numpy as np

import fp16engine as fe

data = fe.data.digits().limit(512)
model = fe.models.create("dnn", num_classes=10, image_size=data.image_size, channels=data.channels)

with tempfile.TemporaryDirectory() as run:
    fe.Trainer(model, precision="fp16", lr=0.1).fit(data, epochs=5, batch_size=64, out=run, progress=False)
    predictor = fe.load(run)  # network, normalisation, image size and classes, from the checkpoint

    image = data.test.images[0]  # uint8 (8, 8, 1); "photo.jpg" or a list works just as well
    found = predictor.predict(image)
    print(f"a {found.classes[0]} with {found.probabilities[0].max():.1%}, in truth a {data.test.labels[0]}")

    every = predictor.predict(data.test.images).labels
    one_by_one = [predictor.predict(image).labels[0] for image in data.test.images[:20]]
    print("the same alone as in a batch:", bool(np.array_equal(every[:20], one_by_one)))
