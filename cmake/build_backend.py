"""The build backend of pyproject.toml: scikit-build-core's, and what a build of the CUDA module needs.

An isolated build sees no wheels but those it asks for.
"""

from __future__ import annotations

from typing import Any

from cuda_requirements import requirements
from scikit_build_core import build
from scikit_build_core.build import *  # noqa: F403  the other hooks are its own


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """As PEP 517 says."""
    return [*build.get_requires_for_build_wheel(config_settings), *requirements(config_settings)]


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    """As PEP 660 says."""
    return [*build.get_requires_for_build_editable(config_settings), *requirements(config_settings)]
