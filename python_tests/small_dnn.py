"""The network "dnn" in small: `module.HIDDEN = UNITS` makes its three hidden layers narrow."""

from __future__ import annotations

import importlib
from typing import Any

module: Any = importlib.import_module("fp16engine.models.dnn")  # the package has a function of this name
UNITS = 32
