"""What launchers tell the processes that they start, in their environment."""

from __future__ import annotations

import os

# MPICH's and Slurm's PMI, Open MPI
_MPI_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
_PMIX = "PMIX_RANK"  # without a size


def by_mpi() -> bool:
    """Tell whether a launcher of MPI started this process, be it alone."""
    return _PMIX in os.environ or among_others()


def among_others() -> bool:
    """Tell whether a launcher of MPI says that this process is one of several."""
    return any(_number(name, 1) > 1 for name in _MPI_SIZES) or _number(_PMIX, 0) > 0


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else default
