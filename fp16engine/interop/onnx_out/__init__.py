"""Networks as ONNX graphs; the package `onnx` (extra `onnx`) is imported when one is written."""

from .check import Checked, checked
from .export import to_onnx

__all__ = ["Checked", "checked", "to_onnx"]
