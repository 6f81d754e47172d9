"""`fp16engine export`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, run_data
from .output import megabytes, print_json, print_table, print_text, share
from .parser import add_command

if TYPE_CHECKING:
    import numpy as np

    from ..prediction import Predictor
    from ..train import Checkpoint

FORMATS = ("onnx", "torch", "safetensors")
DTYPES = ("float16", "float32")
IMAGES = 1000  # of the check
_AGREE = 0.99  # of the images: a file with fewer equal classes failed its check


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "export",
        "a trained network for other programs: ONNX, or weights by PyTorch's names",
        "Write the network of a run to a new file. onnx: a graph for batches of any size, run by\n"
        "onnxruntime on test images where that is installed, and compared. torch: a state dict of\n"
        "torch.save. safetensors: the same, with classes and normalisation in its metadata. Both are read\n"
        "back and compared bit for bit. The exit status is 1 if a check fails.",
        "  fp16engine export runs/photos/fp16 --format onnx --out net.onnx\n"
        "  fp16engine export runs/photos/fp16 --format onnx --normalise --out net.onnx\n"
        "  fp16engine export runs/photos/fp16 --format safetensors --out model.safetensors",
    )
    parser.add_argument("checkpoint", metavar="RUN", help="a run's folder, or its checkpoint.json")
    parser.add_argument(
        "--format",
        type=options.one_of(FORMATS),
        required=True,
        metavar="NAME",
        help="onnx (extra `onnx`), torch (extra `torch`) or safetensors",
    )
    parser.add_argument("--out", type=options.new_file_here, required=True, metavar="FILE", help="a new file")
    parser.add_argument(
        "--dtype",
        type=options.one_of(DTYPES),
        metavar="NAME",
        help="of an ONNX graph: float16 or float32 (default: what the run stores)",
    )
    parser.add_argument(
        "--normalise",
        action="store_true",
        help="let the ONNX graph take pixels, uint8, and normalise them as in training",
    )
    parser.add_argument(
        "--torch",
        metavar="FILE.py:FUNCTION",
        help="for a run of compare --torch: the function that builds its network; the file is run",
    )
    options.add_data(parser, None)
    options.add_device(parser)
    options.add_output(parser, folder=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    from ..prediction.predictor import checkpoint_of

    if arguments.format != "onnx" and (arguments.normalise or arguments.dtype):
        given = "--normalise" if arguments.normalise else "--dtype"
        raise ValueError(f"{given} must be given with --format onnx, got {arguments.format}")
    checkpoint = checkpoint_of(arguments.checkpoint)
    needless = run_data.named(arguments) + ["--limit"] * (arguments.limit is not None)
    if needless and arguments.format != "onnx" and checkpoint.images is not None:
        raise ValueError(f"{needless[0]} must be given with --format onnx, got {arguments.format}")
    if arguments.format == "torch" and find_spec("torch") is None:
        raise ImportError(
            "--format torch needs PyTorch, which is not installed: pip install 'fp16engine[torch]'; --format "
            "safetensors writes the same names without it"
        )
    options.use_threads(arguments)
    predictor = _predictor(arguments, checkpoint)
    if arguments.format == "onnx":
        result = _onnx(arguments, checkpoint, predictor)
    else:
        result = _weights(arguments.out, arguments.format, predictor)
    result = {
        "run": arguments.checkpoint,
        "file": str(arguments.out),
        "format": arguments.format,
        "bytes": arguments.out.stat().st_size,
        **result,
    }
    if arguments.json:
        print_json(result)
    else:
        _print(result)
    return 0 if result["check"] in ("passed", "not done") else 1


def _predictor(arguments: argparse.Namespace, checkpoint: Checkpoint) -> Predictor:
    from ..prediction import Predictor
    from ..prediction.predictor import source_of

    if checkpoint.images is None and run_data.named(arguments):  # one of an earlier version
        _, source = run_data.of_run(arguments, checkpoint, unseen=False)
    else:
        source = source_of(checkpoint)
    model = None
    if arguments.torch is None and checkpoint.model_config is None:
        raise ValueError(
            f"--torch must name the function that builds the network of {arguments.checkpoint}, got none; "
            "models.create did not build it"
        )
    if arguments.torch is not None:
        from ..torch.user_file import user_model

        model = user_model(arguments.torch)(source, checkpoint.body["seed"])
    return Predictor(checkpoint, source, arguments.device, model)


def _onnx(arguments: argparse.Namespace, checkpoint: Checkpoint, predictor: Predictor) -> dict[str, Any]:
    from ..interop import to_onnx
    from ..interop.onnx_out.export import OPSET

    stored = predictor.precision.storage
    dtype = arguments.dtype or (stored if stored in DTYPES else "float32")
    source = predictor.source
    moments = (source.mean, source.std) if arguments.normalise else None
    to_onnx(
        predictor.model,
        arguments.out,
        source.image_size,
        dtype,
        channels=source.channels,
        normalise=moments,
    )
    result = {"dtype": dtype, "opset": OPSET, "normalise": arguments.normalise}
    return {**result, **_compared(arguments, checkpoint, predictor, dtype)}


def _compared(
    arguments: argparse.Namespace, checkpoint: Checkpoint, predictor: Predictor, dtype: str
) -> dict[str, Any]:
    """Run the file on test images, and the network as it was trained."""
    from ..errors import DataError
    from ..interop.onnx_out import check

    if not check.available():
        return _not_done("onnxruntime is not installed: pip install 'fp16engine[onnx]'")
    arguments.limit = arguments.limit or IMAGES
    try:
        dataset, _ = run_data.of_run(arguments, checkpoint, unseen=False)
    except (DataError, FileNotFoundError, ValueError) as error:  # ValueError: they never were on a disk
        if run_data.named(arguments):
            raise
        return _not_done(f"the run's images are not there: {error}")
    images = dataset.test.images if arguments.normalise else dataset.normalised("test", dtype)
    own = predictor.outputs(dataset.normalised("test", predictor.precision.storage))
    found = check.checked(arguments.out, images, own)
    passed = found.same_class >= _AGREE * found.images
    return {"check": "passed" if passed else "failed", "precision": predictor.precision.name, **asdict(found)}


def _not_done(reason: str) -> dict[str, Any]:
    return {"check": "not done", "reason": reason}


def _weights(out: Path, form: str, predictor: Predictor) -> dict[str, Any]:
    """Write a state dict, read it back and compare every bit."""
    import json

    from ..interop import to_torch_state
    from ..reporting.files import write_atomically

    state = to_torch_state(predictor.model)
    if form == "safetensors":
        from safetensors.numpy import save

        from ..tensor_file import decoded

        source = predictor.source
        facts = {
            "classes": list(source.classes),
            "image_size": list(source.image_size),
            "channels": source.channels,
            "mean": source.mean,
            "std": source.std,
            "model": predictor.model.config,
        }
        write_atomically(out, save(state, {"format": "pt", "fp16engine": json.dumps(facts)}))
        again: Any = decoded(out.read_bytes())
    else:
        import io

        import torch

        stream = io.BytesIO()
        torch.save({name: _for_torch(values) for name, values in state.items()}, stream)
        write_atomically(out, stream.getvalue())
        loaded = torch.load(out, weights_only=True)
        again = {name: _from_torch(values) for name, values in loaded.items()}
    same = state.keys() == again.keys() and all(
        values.dtype == again[name].dtype and values.tobytes() == again[name].tobytes()
        for name, values in state.items()
    )
    return {"tensors": len(state), "check": "passed" if same else "failed"}


def _for_torch(values: np.ndarray) -> Any:
    """Return PyTorch's tensor on the values; it takes no bfloat16 from NumPy, but the bits of one."""
    import torch

    if values.dtype.name != "bfloat16":
        return torch.from_numpy(values)
    return torch.from_numpy(values.view("int16")).view(torch.bfloat16)


def _from_torch(values: Any) -> np.ndarray:
    import torch

    from ..floats import numpy_dtype

    if values.dtype != torch.bfloat16:
        found: np.ndarray = values.numpy()
        return found
    bits: np.ndarray = values.view(torch.int16).numpy()
    return bits.view(numpy_dtype("bfloat16"))


def _print(result: dict[str, Any]) -> None:
    rows = [("file", result["file"]), ("size", megabytes(result["bytes"]))]
    if result["format"] == "onnx":
        rows.append(("stores", f"{result['dtype']}, opset {result['opset']}"))
        rows.append(
            ("takes", "pixels, uint8" if result["normalise"] else f"normalised images, {result['dtype']}")
        )
    else:
        rows.append(("tensors", f"{result['tensors']}, read back bit for bit" if result["check"] == "passed"
                     else f"{result['tensors']}, read back otherwise"))  # fmt: skip
    if "images" in result:
        count = result["images"]
        rows.append(("test images compared", f"{count:,}"))
        rows.append(("same class", f"{result['same_class']:,}, {share(result['same_class'] / count)}"))
        rows.append(("largest difference", f"{result['difference']:.2g}, {result['ulp']:.3g} ulp"))
    print_table(f"{result['run']} as {result['format']}", ("", ""), rows)
    if result["check"] == "not done":
        print_text(f"Not compared on images: {result['reason']}")
    elif "images" in result:
        print_text(f"Compared with the network in {result['precision']}, run by onnxruntime on the CPU.")
