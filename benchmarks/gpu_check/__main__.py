"""The command: python benchmarks/gpu_check."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder, whose files have common names

from gpu_check.command import main  # noqa: E402

sys.exit(main())
