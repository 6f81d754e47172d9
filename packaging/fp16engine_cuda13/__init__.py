"""The compiled CUDA module of fp16engine, which loads it from here when a GPU is asked for."""

from ._version import __version__

__all__ = ["__version__"]
