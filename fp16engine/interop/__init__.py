"""Networks for other programs: weights by PyTorch's names and in its layouts, graphs as ONNX files."""

from .onnx_out import to_onnx
from .torch_state import from_torch_state, to_torch_state

__all__ = ["from_torch_state", "to_onnx", "to_torch_state"]
