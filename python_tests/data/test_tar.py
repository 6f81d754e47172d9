"""Our reader of tar archives against the standard library's writer."""

from __future__ import annotations

import io
import tarfile

import pytest

from fp16engine.data.tar import TarReader

_NAMES = {
    "short": "train/cat/0.png",
    "99": "a" * 99,
    "100": "a" * 100,
    "101": "a" * 101,
    "prefix": "/".join(["folder" * 8] * 5) + "/x.png",
    "300": "b" * 300,
    "unicode": "train/Käfer/" + "ü" * 90,
}
_FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.mark.parametrize("form", _FORMATS)
@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5000])
@pytest.mark.parametrize("taken", [True, False])
def test_reads_what_tarfile_writes(form: str, name: str, size: int, taken: bool) -> None:
    stream = io.BytesIO()
    data = bytes(range(256)) * 20
    with tarfile.open(fileobj=stream, mode="w", format=_FORMATS[form]) as target:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        target.addfile(folder)
        for suffix in "12":
            info = tarfile.TarInfo(_NAMES[name] + suffix)
            info.size, info.mtime = size, 1.5  # a date that is not whole makes pax write a header
            try:
                target.addfile(info, io.BytesIO(data[:size]))
            except ValueError:
                pytest.skip("this format has no room for the name")
    stream.seek(0)
    reader, found = TarReader(stream.read, 1 << 20, "a.tar"), []
    for entry in reader.entries():
        found.append(
            (entry.name.rstrip("/"), reader.data(entry.size) if entry.size is not None and taken else None)
        )
    expected = data[:size] if taken else None
    assert found == [("folder", None), *((_NAMES[name] + suffix, expected) for suffix in "12")]
