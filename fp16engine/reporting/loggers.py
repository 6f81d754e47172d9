"""Where the rows of metrics.jsonl go, too: TensorBoard, wandb, trackio (with wandb's words) and MLflow.

A package is imported when a run asks for it. What it calls its run is kept in the run's folder, so that a
resumed run continues it. A logger never ends a run: where it fails, it is left with a warning.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..bounded import parse_json, read_regular, said
from ..validate import choice, listed
from .files import write_atomically

FILE_NAME = "loggers.json"  # by logger, what it calls the run
PROJECT = "fp16engine"
_LARGEST_FILE = 1 << 16
_LONGEST_PARAMETER = 500  # letters that every store of MLflow takes
_MODULES = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow"}
NAMES = tuple(_MODULES)


class Logger(Protocol):
    """Takes the figures of a run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the figures of a step."""

    def flush(self) -> None:
        """Bring what was taken to where it is kept."""

    def finish(self, failed: bool) -> None:
        """End the run."""


def names_of(log: Any, tensorboard: bool = False) -> tuple[str, ...]:
    """Return the loggers' names, each once.

    log: a name or a sequence of names; tensorboard: whether it is one of them, too.

    Raises:
        ValueError: there is no such logger.
        TypeError: log is neither a name nor a sequence of names.

    >>> names_of(())
    ()
    """
    given = [log] if isinstance(log, str) else listed("log", log, "a name or a sequence of names")
    given += ["tensorboard"] * tensorboard
    return tuple(dict.fromkeys(choice("log", name, NAMES) for name in given))


def check_installed(names: Iterable[str]) -> None:
    """Raise ImportError, which says how to get it, where the package of one of these loggers is missing."""
    for name in names:
        try:
            importlib.import_module(_MODULES[name])
        except ImportError as error:
            raise ImportError(
                f"{name} needs the package {_MODULES[name]}; pip install 'fp16engine[{name}]'"
            ) from error


def figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a row of metrics.jsonl by "kind/name"; what is not finite there is left out.

    >>> figures({"kind": "step", "epoch": 1, "step": 2, "loss": 0.5, "applied": True, "loss_scale": None})
    {'step/loss': 0.5, 'step/applied': 1.0}
    """
    return {
        f"{row['kind']}/{key}": float(value)
        for key, value in row.items()
        if key not in ("kind", "step", "epoch") and isinstance(value, int | float)
    }


class Loggers:
    """The loggers of a run; one that fails is left, with one warning.

    names: of `NAMES`; folder: of the run; config: what is logged once, JSON values; resume_at: the step of
    the checkpoint that the run continues from.
    """

    def __init__(
        self, names: Iterable[str], folder: Path, config: Mapping[str, Any], resume_at: int | None = None
    ) -> None:
        self._open: dict[str, Logger] = {}
        known = {} if resume_at is None else _known(folder)
        for name in names:
            self._guarded(name, partial(self._start, name, folder, config, resume_at, known))
        if known:
            write_atomically(folder / FILE_NAME, json.dumps(known, indent=1).encode() + b"\n")

    def _start(
        self,
        name: str,
        folder: Path,
        config: Mapping[str, Any],
        resume_at: int | None,
        known: dict[str, str],
    ) -> None:
        module = importlib.import_module(_MODULES[name])
        if name == "tensorboard":
            self._open[name] = _TensorBoard(module, folder, resume_at)
        elif name == "mlflow":
            self._open[name], known[name] = _mlflow(module, folder, config, known.get(name))
        else:
            own = known.setdefault(name, f"{folder.resolve().name}-{secrets.token_hex(4)}")
            self._open[name] = _Wandb(module, folder, config, own)

    def log(self, row: Mapping[str, Any]) -> None:
        """Pass the numbers of a row on."""
        if self._open and (values := figures(row)):
            self._each(lambda logger: logger.log(values, row["step"]))

    def flush(self) -> None:
        """Bring what was logged to where it is kept."""
        self._each(lambda logger: logger.flush())

    def finish(self, failed: bool) -> None:
        """End the run."""
        self._each(lambda logger: logger.finish(failed))

    def _each(self, act: Callable[[Logger], None]) -> None:
        for name, logger in list(self._open.items()):
            self._guarded(name, partial(act, logger))

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            with redirect_stdout(sys.stderr):  # standard output is for results; packages greet and take leave
                act()
        except Exception as error:  # whatever a service's package raises
            self._open.pop(name, None)
            warnings.warn(
                f"{name} failed and gets no more figures of this run; metrics.jsonl has all: {said(error)}",
                stacklevel=2,
            )


class _TensorBoard:
    """Event files in DIR/tensorboard."""

    def __init__(self, module: Any, folder: Path, resume_at: int | None) -> None:
        purge = None if resume_at is None else resume_at + 1
        self._board = module.SummaryWriter(str(folder / "tensorboard"), purge_step=purge)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        self._board.flush()

    def finish(self, failed: bool) -> None:
        self._board.close()


class _Wandb:
    """A package with wandb's words: `init`, `log` and `finish`."""

    def __init__(self, module: Any, folder: Path, config: Mapping[str, Any], own: str) -> None:
        settings = {"project": os.environ.get("WANDB_PROJECT", PROJECT), "name": own, "resume": "allow"}
        if module.__name__ == "wandb":  # trackio goes by the name, and keeps its files elsewhere
            settings |= {"id": own, "dir": str(folder)}
        module.init(config=dict(config), **settings)
        self._module = module

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._module.log(dict(values), step=step)

    def flush(self) -> None:
        """Rows are sent as they come."""

    def finish(self, failed: bool) -> None:
        if self._module.__name__ == "wandb":
            self._module.finish(exit_code=int(failed))
        else:
            self._module.finish()


class _MLflow:
    """A run of MLflow, by its client, which leaves the caller's active run alone."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._id = client, run_id

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def flush(self) -> None:
        """Rows are sent as they come."""

    def finish(self, failed: bool) -> None:
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


def _mlflow(module: Any, folder: Path, config: Mapping[str, Any], known: str | None) -> tuple[_MLflow, str]:
    """Return a run of MLflow and its id: the known one, or a new one with its parameters."""
    client = importlib.import_module("mlflow.tracking").MlflowClient()
    if known is not None:
        client.update_run(known, status="RUNNING")
        return _MLflow(client, known), known
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    found = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if found is None else found.experiment_id
    run_id: str = client.create_run(experiment, run_name=folder.resolve().name).info.run_id
    for key, value in _flat(config):
        client.log_param(run_id, key, str(value)[:_LONGEST_PARAMETER])
    return _MLflow(client, run_id), run_id


def _flat(config: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return the entries with those of a group by "group.name"."""
    result: list[tuple[str, Any]] = []
    for key, value in config.items():
        result += _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else [(before + key, value)]
    return result


def _known(folder: Path) -> dict[str, str]:
    """Return what the loggers call the run in a folder; nothing where none was used."""
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        known = parse_json(read_regular(path, _LARGEST_FILE))
        whole = isinstance(known, dict) and all(isinstance(v, str) and k in NAMES for k, v in known.items())
    except ValueError:
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged: it must hold names of a run by logger")
    return dict(known)
