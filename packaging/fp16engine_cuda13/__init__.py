"""The compiled CUDA module of fp16engine, for CUDA 13: `fp16engine` finds it here and loads it when a GPU is asked for."""

from ._version import __version__

__all__ = ["__version__"]
