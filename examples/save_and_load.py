"""Saving and loading: a run that continues with the same bits, the best epoch, and plain weights."""

import tempfile

import fp16engine as fe

data, small = fe.data.digits().limit(256), {"image_size": 8, "channels": 1}

with tempfile.TemporaryDirectory() as folder:
    best = fe.train.BestCheckpoint(f"{folder}/best")
    first = fe.Trainer(fe.models.create("dnn", **small), callbacks=[best, fe.train.EarlyStopping(patience=3)])
    first.fit(data, 2, 64, out=f"{folder}/run", progress=False)

    again = fe.Trainer(fe.models.create("dnn", **small))
    again.fit(data, 4, 64, out=f"{folder}/run", resume=True, progress=False)  # two more epochs
    print(f"{again.step_count} steps, best epoch of the first run: {best.best_epoch}")

    # The network alone, in the precision of the run; fe.load(f"{folder}/run") predicts with it.
    weights = fe.Checkpoint.load(f"{folder}/run").create_model().state_dict()

copy = fe.models.create("dnn", **small).to("cpu", "fp16")
copy.load_state_dict(weights)
same = all((values == weights[name]).all() for name, values in copy.state_dict().items())
print("the same bits:", same)
