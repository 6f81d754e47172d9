"""What launchers tell the processes that they start, in their environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import BackendUnavailable

# MPICH's and Slurm's PMI, Open MPI
_MPI_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
_PMIX = "PMIX_RANK"  # without a size
_ADDRESS, _PORT = "MASTER_ADDR", "MASTER_PORT"
# rank, size, and what names the run: torchrun's, srun's
_OTHERS = (
    ("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID"),
)


@dataclass(frozen=True)
class Place:
    """A rank among those of torchrun or srun, and where rank 0 is to listen."""

    rank: int
    size: int
    address: str
    port: int
    run: str

    def of_run(self) -> dict[str, str | int]:
        """What all ranks of a run have in common, as JSON values."""
        return {"run": self.run, "size": self.size}

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


def place() -> Place | None:
    """Return where torchrun or srun put this process; None where neither started several.

    torchrun listens on MASTER_PORT itself, so rank 0 takes the port above.

    Raises:
        BackendUnavailable: it is not said where rank 0 is to listen.
    """
    for rank, size, run in _OTHERS:
        if _number(size, 1) <= 1 or rank not in os.environ:
            continue
        port = _number(_PORT, 0)
        if not os.environ.get(_ADDRESS) or not 0 < port < 65535:
            raise BackendUnavailable(
                f"transport 'nccl' needs {_ADDRESS} and {_PORT} in the environment, rank 0's machine and a "
                f"free port, got {os.environ.get(_ADDRESS)!r} and {os.environ.get(_PORT)!r}"
            )
        port += os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return Place(_number(rank, 0), _number(size, 1), os.environ[_ADDRESS], port, os.environ.get(run, ""))
    return None


def by_mpi() -> bool:
    """Tell whether a launcher of MPI started this process, be it alone."""
    return _PMIX in os.environ or _several_by_mpi()


def among_others() -> bool:
    """Tell whether a launcher says that this process is one of several which wait for each other.

    srun without an MPI does not say so: it starts runs of their own as well.
    """
    return _several_by_mpi() or ("RANK" in os.environ and _number("WORLD_SIZE", 1) > 1)


def _several_by_mpi() -> bool:
    return any(_number(name, 1) > 1 for name in _MPI_SIZES) or _number(_PMIX, 0) > 0


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else default
