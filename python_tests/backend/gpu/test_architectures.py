"""A module's code and a GPU fit or do not."""

from __future__ import annotations

import pytest

from fp16engine.backend.gpu.architectures import runs_on


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        ("90-real", 90, True),
        ("80-real", 86, True),  # the same major version
        ("86-real", 80, False),
        ("80-real", 90, False),
        ("80", 90, True),  # with PTX
        ("80-virtual", 75, False),
        ("90a-real", 90, True),
        ("90a-real", 100, False),
        ("75-real 80-real 86-real 89-real 90-real 100-real 120", 103, True),
        ("75-real;80-real", 89, True),
        ("100-real 120", 110, False),
        ("native", 75, True),
    ],
)
def test_code_runs_where_nvidia_says(architectures: str, capability: int, expected: bool) -> None:
    assert runs_on(architectures, capability) is expected
