"""Checkpoints: tensors in safetensors, everything else in JSON; written atomically, never pickled.

`checkpoint-<step>-<digest>.safetensors` holds weights, buffers, master weights and optimizer state with their
exact bits. `checkpoint.json` names that file with its SHA-256 and holds the rest (policy, model, settings,
counters, loss scale, randomness, position, history, audit); renaming it into place is the moment a checkpoint
counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import doctor, tensor_file
from .._version import __version__
from ..block_format import BlockFormat
from ..bounded import FAULTS, parse_json, read_regular
from ..errors import CheckpointError
from ..loss_scale import LossScale
from ..operand_plan import OperandPlan
from ..precision import Precision
from ..reporting.files import TEMPORARY, write_atomically
from ..reporting.history import EpochRecord, EpochSums, History
from ..tensor_file import MODEL
from ..validate import integer, must_be, shown
from ..validate import path as checked_path
from .checkpoint_values import check_audit, first_undefined, reason, wrong_norm
from .counters import StepCounters
from .source import ImageSource

if TYPE_CHECKING:
    from ..nn import Module
    from .state import TrainState
    from .trainer import Trainer

FORMAT = 1
LOOKAHEAD = "lookahead."  # before the names of slow averages
FILE_NAME = "checkpoint.json"
_TENSOR_FILE = re.compile(tensor_file.NAME)
_OURS = re.compile(rf"({tensor_file.NAME}|checkpoint\.json)({TEMPORARY})?|metrics\.jsonl{TEMPORARY}")


@dataclass
class RunState:
    """Where a run stands: `epoch` finished epochs, `step` steps into the next, its sums, the history.

    `images` are those it is trained on, None for text and in checkpoints from before they were kept.
    """

    settings: dict[str, Any]
    epoch: int
    step: int
    sums: EpochSums
    history: History
    images: ImageSource | None = None


def libraries(device: str) -> dict[str, Any]:
    """What the bits of a run follow but the engine: the device's libraries, fused dot products or not."""
    info = doctor.backend_info(device)
    return {key: info[key] for key in ("fma", "cublaslt", "cudnn", "gpu") if key in info}


def plain(value: Any) -> Any:
    """The value as JSON would give it back (tuples become lists), for comparisons."""
    return json.loads(json.dumps(value))


def describe_model(model: Module) -> dict[str, Any]:
    """What a checkpoint says about its model: class, builder arguments where known, number of parameters."""
    return {
        "class": type(model).__name__,
        "config": plain(getattr(model, "config", None)),
        "parameters": sum(parameter.size for parameter in model.parameters()),
    }


def first_difference(theirs: Any, ours: Any, name: str = "") -> str | None:
    """The first entry in which two JSON values differ, in words, or None."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in {**ours, **theirs}:
            found = first_difference(theirs.get(key), ours.get(key), f"{name}.{key}" if name else key)
            if found:
                return found
        return None
    if theirs == ours:
        return None
    return f"{name}: the checkpoint has {theirs!r}, this run has {ours!r}"


def save(directory: Path, state: TrainState, run: RunState) -> Path:
    """Write a checkpoint of the state into `directory` and remove the one before; the JSON file's path.

    Raises SaveError when the disk refuses; the previous checkpoint is whole then, and temporary files are
    gone.
    """
    from safetensors.numpy import save as serialise

    optimizer = state.optimizer.state_dict()
    tensors = {MODEL + name: array for name, array in state.model.state_dict().items()}
    tensors |= {
        f"optimizer.{key}": value for key, value in optimizer.items() if isinstance(value, np.ndarray)
    }
    if state.lookahead is not None:
        tensors |= {LOOKAHEAD + name: array for name, array in state.lookahead.state_dict().items()}
    content = serialise(tensors)
    digest = hashlib.sha256(content).hexdigest()
    file_name = f"checkpoint-{state.step_count}-{digest[:12]}.safetensors"
    body = {
        "format": FORMAT,
        "version": __version__,
        "tensors": {"file": file_name, "sha256": digest},
        "model": describe_model(state.model),
        "precision": asdict(state.precision),
        "precision_choices": state.precision.describe(),
        "device": state.device,
        "libraries": libraries(state.device),
        "seed": state.seed,
        "optimizer": {key: value for key, value in optimizer.items() if not isinstance(value, np.ndarray)},
        "training": plain(state.record()),
        "run": run.settings,
        "trainer": state.state_dict(),
        "epoch": run.epoch,
        "step": run.step,
        "sums": asdict(run.sums),
        "history": [record.to_json() for record in run.history.epochs],
        "peak_memory_bytes": run.history.peak_memory_bytes,
        "audit": state.audit,
    }
    if (ranks := state.parallel.record()) is not None:
        body["distributed"] = ranks
    if run.images is not None:
        body["images"] = run.images.to_dict()
    document = {"sha256": _digest(body), "checkpoint": body}
    write_atomically(directory / file_name, content)
    path = directory / FILE_NAME
    write_atomically(path, json.dumps(document, indent=1, allow_nan=False).encode())
    _remove_others(directory, file_name)
    return path


@dataclass(frozen=True)
class Checkpoint:
    """A validated checkpoint: `Checkpoint.load(path)`, then `create_model()` or `restore(trainer)`.

    Args:
        path: of its checkpoint.json.
        body: what that file says.
        tensors: NumPy arrays of any shape, float16, float32 or int64, by name.

    >>> import tempfile
    >>> import fp16engine as fe
    >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer = fe.Trainer(model)
    ...     _ = trainer.fit(data, epochs=1, batch_size=16, out=folder, progress=False)
    ...     saved = fe.Checkpoint.load(folder)
    >>> saved.epoch, saved.step, saved.precision.name
    (1, 2, 'fp16')
    """

    path: Path
    body: dict[str, Any]
    tensors: dict[str, np.ndarray]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read a checkpoint and check it against its checksums.

        Args:
            path: its folder, or its checkpoint.json.

        Raises:
            CheckpointError: there is none, or a part is missing, truncated or altered.

        >>> Checkpoint.load("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fp16engine.errors.CheckpointError: ...
        """
        json_path = checked_path("the checkpoint's folder", path)
        if json_path.suffix != ".json":
            json_path = json_path / FILE_NAME
        body = _read_json(json_path)
        tensor_path = json_path.with_name(body["tensors"]["file"])
        try:
            tensors = tensor_file.read(tensor_path, body["model"]["parameters"], body["tensors"]["sha256"])
        except FileNotFoundError:
            raise CheckpointError(
                f"{tensor_path} must be next to {json_path.name}, got no such file"
            ) from None
        except OSError as error:
            raise CheckpointError(f"{tensor_path} cannot be read: {error.strerror or error}") from error
        if (wrong := wrong_norm(tensors)) is not None:
            raise CheckpointError(f"{tensor_path} is damaged: {wrong}")
        undefined = first_undefined(tensors)
        if undefined and not body["trainer"].get("nonfinite_steps"):
            raise CheckpointError(
                f"{tensor_path} is damaged: {undefined!r} must be finite as every step of its run was, got "
                "NaN"
            )
        return cls(json_path, body, tensors)

    def __repr__(self) -> str:
        name = self.body["model"]["class"]
        done = f"epoch {self.epoch}, step {self.step}"
        return f"Checkpoint({str(self.path)!r}, {name}, {self.precision.name}, {done})"

    @property
    def precision(self) -> Precision:
        """The policy it was trained under."""
        return _precision(self.body["precision"])

    @property
    def model_config(self) -> dict[str, Any] | None:
        """The arguments of `models.create`, None for a model that was built by hand."""
        config: dict[str, Any] | None = self.body["model"]["config"]
        return config

    @property
    def settings(self) -> dict[str, Any]:
        """What the run was started with: model, precision, optimizer, seed, batch size, data, epochs."""
        return {
            "model": self.body["model"],
            "precision": self.body["precision"],
            "seed": self.body["seed"],
            **self.body["training"],
            **self.body["run"],
        }

    @property
    def images(self) -> ImageSource | None:
        """What it was trained on; None for text, and in files from before it was kept."""
        stored = self.body.get("images")
        return None if stored is None else ImageSource.from_dict(stored)

    @property
    def step(self) -> int:
        """Attempted training steps so far."""
        count: int = self.body["trainer"]["step_count"]
        return count

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        count: int = self.body["epoch"]
        return count

    def create_model(self, device: str = "cpu") -> Module:
        """Build the model by its name and arguments, with these weights, ready for a Trainer.

        Args:
            device: "cpu", "cuda", "cuda:1" or "reference".

        Raises:
            CheckpointError: the model was built by hand; use `load_model(model, device)` then.
            BackendUnavailable: the device is not there.

        >>> import tempfile
        >>> import fp16engine as fe
        >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = fe.Trainer(model)
        ...     _ = trainer.fit(data, epochs=1, batch_size=32, out=folder, progress=False)
        ...     again = fe.Checkpoint.load(folder).create_model()
        >>> again.num_parameters() == model.num_parameters()
        True
        """
        from .. import models

        if self.model_config is None:
            raise CheckpointError(
                f"{self.path} must hold a model that models.create built, got one built by hand "
                f"({self.body['model']['class']}); build it again and use load_model"
            )
        try:
            # a config may ask for a network of any size, so its shapes come first
            difference = self._other_tensors(models.outline(self.model_config))
            model = None if difference else models.from_config(self.model_config)
        except FAULTS as error:
            raise CheckpointError(f"{self.path}: its model cannot be built: {reason(error)}") from error
        if model is None:
            raise CheckpointError(f"{self.path} must describe the network of its tensors: {difference}")
        self.load_model(model, device)
        return model

    def load_model(self, model: Module, device: str = "cpu") -> None:
        """Move a model to a device in this checkpoint's precision and give it these weights and buffers.

        Args:
            model: of the same shapes.
            device: "cpu", "cuda", "cuda:1" or "reference".

        Raises:
            CheckpointError: it is another model; nothing is changed then.
            BackendUnavailable: the device is not there.

        >>> import tempfile
        >>> import fp16engine as fe
        >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = fe.Trainer(model)
        ...     _ = trainer.fit(data, epochs=1, batch_size=32, out=folder, progress=False)
        ...     twin = fe.models.create("dnn", image_size=8, channels=1, seed=1)
        ...     fe.Checkpoint.load(folder).load_model(twin)
        >>> all((a == b).all() for a, b in zip(twin.state_dict().values(), model.state_dict().values()))
        True
        """
        self._check_model(model)
        model.to(device, self.precision)
        try:
            model.load_state_dict(self._part(MODEL))
        except FAULTS as error:
            raise CheckpointError(f"{self.path} does not fit this model: {reason(error)}") from error

    def check(self, trainer: Trainer) -> None:
        """Require a trainer with this checkpoint's model and settings.

        Args:
            trainer: to compare with.

        Raises:
            CheckpointError: there is a difference; the message names the first one.

        >>> import tempfile
        >>> import fp16engine as fe
        >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = fe.Trainer(model)
        ...     _ = trainer.fit(data, epochs=1, batch_size=32, out=folder, progress=False)
        ...     fe.Checkpoint.load(folder).check(trainer)
        """
        self._check_model(trainer.model)
        ours = {"precision": asdict(trainer.precision), "seed": trainer.seed, **trainer.state.record()}
        theirs = {
            "precision": plain(asdict(self.precision)),
            "seed": self.body["seed"],
            **self.body["training"],
        }
        if theirs["precision"]["name"] != ours["precision"]["name"]:  # before the choices that follow from it
            theirs["precision"], ours["precision"] = theirs["precision"]["name"], ours["precision"]["name"]
        self.refuse(first_difference(theirs, plain(ours)))

    def restore(self, trainer: Trainer) -> RunState:
        """Bring a trainer to the exact state that was saved, and return where the run stood.

        Args:
            trainer: of the same model, precision and settings.

        Raises:
            CheckpointError: there is a difference; the message names the first one, and nothing is changed.

        >>> import tempfile
        >>> import fp16engine as fe
        >>> data, model = fe.data.digits().limit(32), fe.models.create("dnn", image_size=8, channels=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = fe.Trainer(model)
        ...     _ = trainer.fit(data, epochs=1, batch_size=16, out=folder, progress=False)
        ...     twin = fe.Trainer(fe.models.create("dnn", image_size=8, channels=1))
        ...     _ = fe.Checkpoint.load(folder).restore(twin)
        >>> twin.step_count
        2
        """
        self.check(trainer)
        state = trainer.state
        before = state.optimizer.state_dict(), state.state_dict()
        slow = None if state.lookahead is None else state.lookahead.state_dict()
        try:
            run = _run_state(self.body)
            state.load_state_dict(self.body["trainer"])
            state.optimizer.load_state_dict({**self.body["optimizer"], **self._part("optimizer.")})
            if state.lookahead is not None:
                state.lookahead.load_state_dict(self._part(LOOKAHEAD))
            state.model.load_state_dict(self._part(MODEL))
        except FAULTS as error:
            state.optimizer.load_state_dict(before[0])
            state.load_state_dict(before[1])
            if state.lookahead is not None and slow is not None:
                state.lookahead.load_state_dict(slow)
            raise CheckpointError(f"{self.path} does not fit this trainer: {reason(error)}") from error
        state.audit = self.body.get("audit")
        return run

    def refuse(self, difference: str | None) -> None:
        """Raise an error about a difference, unless there is none.

        Args:
            difference: in words, or None.

        Raises:
            CheckpointError: there is a difference.

        >>> from pathlib import Path
        >>> Checkpoint(Path("checkpoint.json"), {}, {}).refuse(None)
        """
        if difference:
            raise CheckpointError(f"{self.path} must be of this run, got another: {difference}")

    def _check_model(self, model: Module) -> None:
        theirs, ours = self.body["model"], describe_model(model)
        if theirs["config"] and ours["config"]:
            # the seed only chose initial weights, which are replaced
            seed = {"seed": None}
            self.refuse(first_difference({**theirs["config"], **seed}, {**ours["config"], **seed}, "model"))
        if difference := self._other_tensors(model):
            raise CheckpointError(f"{self.path} must be of this model: {difference}")

    def _other_tensors(self, model: Module) -> str | None:
        """The first weight or buffer that is not as in a model, in words, or None."""
        shapes = {name: np.shape(array) for name, array in model.adapted(self._part(MODEL)).items()}
        expected = {name: tuple(t.shape) for name, t in (*model.named_parameters(), *model.named_buffers())}
        for name in sorted({*shapes, *expected}):
            ours, theirs = expected.get(name), shapes.get(name)
            if ours is None:
                return f"{shown(name)} must not be there, got one of shape {theirs}"
            if theirs is None:
                return f"{shown(name)} must be of shape {ours}, got none"
            if ours != theirs:
                return f"{shown(name)} must be of shape {ours}, got {theirs}"
        return None

    def _part(self, prefix: str) -> dict[str, np.ndarray]:
        """The tensors whose names start with `prefix`; backends copy what they take."""
        return {
            key.removeprefix(prefix): array for key, array in self.tensors.items() if key.startswith(prefix)
        }


def _run_state(body: dict[str, Any]) -> RunState:
    history = History(
        epochs=[EpochRecord.from_json(row) for row in body["history"]],
        peak_memory_bytes=_count("peak_memory_bytes", body["peak_memory_bytes"]),
    )
    if len(history.epochs) != _count("epoch", body["epoch"]):
        raise ValueError(f"history must be {body['epoch']} epoch records, got {len(history.epochs)}")
    return RunState(
        settings=body["run"],
        epoch=body["epoch"],
        step=_count("step", body["step"]),
        sums=EpochSums.from_json(body["sums"]),
        history=history,
    )


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _count(name: str, value: Any) -> int:
    return integer(name, value, 0, 2**63 - 1)


_JSON_LIMIT, _JSON_ENTRIES = 1 << 22, 1 << 17  # bytes, entries
_SECTIONS: dict[str, type] = {
    "tensors": dict,
    "model": dict,
    "precision": dict,
    "device": str,
    "seed": int,
    "optimizer": dict,
    "training": dict,
    "run": dict,
    "trainer": dict,
    "epoch": int,
    "step": int,
    "sums": dict,
    "history": list,
    "peak_memory_bytes": int,
}


def _read_json(path: Path) -> dict[str, Any]:
    """The checked body of checkpoint.json; CheckpointError in one sentence otherwise."""
    try:
        content = read_regular(path, _JSON_LIMIT, str(path), CheckpointError)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path.parent} must hold a checkpoint, got no {path.name} there") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        document = parse_json(content, _JSON_ENTRIES)
        digest, body = document["sha256"], document["checkpoint"]
        whole = isinstance(body, dict) and digest == _digest(body)
        wrong = _unreadable(body)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(
            f"{path} is damaged: it must be the JSON that this engine writes, got another"
        ) from None
    if not whole:
        raise CheckpointError(f"{path} is damaged: its content must match its checksum, got another")
    if wrong is not None:
        raise CheckpointError(f"{path} is damaged: {wrong}")
    if body.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} must be of format {FORMAT} for version {__version__}, got {shown(body.get('format'))}"
        )
    for key, kind in _SECTIONS.items():
        if not isinstance(body.get(key), kind) or isinstance(body[key], bool):
            raise CheckpointError(
                f"{path} is damaged: its entry {key!r} must be a {kind.__name__}, got "
                f"{shown(type(body.get(key)))}"
            )
    tensors = body["tensors"]
    if not (isinstance(tensors.get("file"), str) and _TENSOR_FILE.fullmatch(tensors["file"])):
        raise CheckpointError(
            f"{path} is damaged: file must be the name of a tensor file, got {shown(tensors.get('file'))}"
        )
    try:
        _precision(body["precision"])
        if not {"class", "config", "parameters"} <= set(body["model"]):
            raise ValueError("model must hold class, config and parameters, got one without")
        if not isinstance(body["model"]["config"], dict | None):
            raise ValueError(must_be("model: config", "a table or None", type(body["model"]["config"])))
        _run_state(body)
        StepCounters.from_dict(body["trainer"])
        if not isinstance(body.get("distributed"), dict | None):
            raise ValueError(must_be("distributed", "a table or None", type(body["distributed"])))
        if body.get("audit") is not None:
            check_audit(body["audit"])
        _count("model.parameters", body["model"]["parameters"])
        if body.get("images") is not None:
            ImageSource.from_dict(body["images"])
        if not isinstance(body["model"]["class"], str):
            raise ValueError(must_be("model: class", "a name", type(body["model"]["class"])))
    except FAULTS as error:
        raise CheckpointError(f"{path} is damaged: {reason(error)}") from error
    return body


def _unreadable(value: Any, name: str = "") -> str | None:
    """Say which entry is a number that this engine never writes: an integer of more than 64 bits, NaN."""
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        found = (_unreadable(entry, f"{name}.{key}" if name else str(key)) for key, entry in entries)
        return next((words for words in found if words), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{name[:80]} must be a finite number, got {value}"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return f"{name[:80]} must be an integer of 64 bits, got one of {value.bit_length()} bits"
    return None


def _precision(fields: dict[str, Any]) -> Precision:
    scale, plan = fields["loss_scale"], fields.get("plan")
    read: dict[str, Any] = {"loss_scale": None if scale is None else LossScale(**scale)}
    if plan is not None:
        layers = tuple((str(path), _operand(operand)) for path, operand in plan["layers"])
        ends = {key: _operand(plan[key]) for key in ("edges", "late")}
        read["plan"] = OperandPlan(**{**plan, **ends, "layers": layers})
    read |= {key: _operand(fields.get(key)) for key in ("operand", "weights")}
    return _named({**fields, **read})


def _named(fields: dict[str, Any]) -> Precision:
    """The policy of these choices; an earlier file may name a preset whose choices were others.

    Before there was a choice of `convolution`, it was direct.
    """
    fields = {"convolution": "direct", **fields}
    with contextlib.suppress(ValueError):
        preset = Precision.get(fields["name"])
        changed = {
            key: fields[key]
            for key in ("update", "loss_scale", "convolution")
            if fields[key] != getattr(preset, key)
        }
        fields = {**fields, "name": preset.changed(**changed).name}
    return Precision(**fields)


def _operand(value: Any) -> Any:
    """A block format from its JSON values; anything else as it is."""
    return BlockFormat(**{**value, "draw": tuple(value["draw"])}) if isinstance(value, dict) else value


def _remove_others(directory: Path, keep: str) -> None:
    """Remove tensor files of earlier checkpoints and what a kill left behind; harmless when that fails."""
    for path in directory.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in (keep, FILE_NAME):
            with contextlib.suppress(OSError):
                os.unlink(path)
