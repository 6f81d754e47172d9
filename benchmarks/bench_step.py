"""Our training step against PyTorch's; the same as `fp16engine bench step`, runnable from a checkout."""

import sys

from fp16engine.cli import main

sys.exit(main(["bench", "step", *sys.argv[1:]]))
