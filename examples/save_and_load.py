"""Saving and loading: a run that continues with the same bits, the best epoch, and plain weights."""

import tempfile
from pathlib import Path

import fp16engine as fe

data = fe.data.digits().limit(256)


def trainer(*callbacks: fe.train.Callback) -> fe.Trainer:
    """Return a new trainer of the same network and seed."""
    model = fe.models.create("dnn", image_size=8, channels=1)
    return fe.Trainer(model, precision="fp16", lr=0.05, callbacks=callbacks)


with tempfile.TemporaryDirectory() as folder:
    run, best = Path(folder) / "run", fe.train.BestCheckpoint(Path(folder) / "best")
    trainer(best, fe.train.EarlyStopping(patience=3)).fit(data, 2, 64, out=run, progress=False)
    again = trainer()
    again.fit(data, 4, 64, out=run, resume=True, progress=False)  # two more epochs
    print(f"{again.step_count} steps, best epoch of the first run: {best.best_epoch}")

    model = fe.Checkpoint.load(run).create_model()  # the network alone, in the precision of the run
    copy = fe.models.create("dnn", image_size=8, channels=1).to("cpu", "fp16")
    copy.load_state_dict(model.state_dict())
    theirs = model.state_dict()
    same = all((values == theirs[name]).all() for name, values in copy.state_dict().items())
    print("the same bits:", same)
