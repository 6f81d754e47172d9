"""PyTorch's modules as ours: `from_torch` reads a module's graph with torch.fx and builds a `Graph`."""

from .build import from_torch
from .graph import Graph

__all__ = ["Graph", "from_torch"]
