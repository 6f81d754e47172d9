"""Every kernel against its floor; the same as `fp16engine bench kernels`, runnable from a checkout."""

import sys

from fp16engine.cli import main

sys.exit(main(["bench", "kernels", *sys.argv[1:]]))
