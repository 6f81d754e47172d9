"""`python -m fp16engine` is the command `fp16engine`."""

import sys

from .cli import main

sys.exit(main())
