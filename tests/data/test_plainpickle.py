"""Pickles run nothing, and take no more memory than their bytes can fill."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from emu2eval.data.plainpickle import load
from emu2eval.errors import DataError

REFS = [
    {
        "ref_id": number,
        "sent_ids": (number, -number, 1 << 40, 70_000),
        "bbox": [0.5, None, True],
        "sentences": [
            {"tokens": ["the", "man"], "sent": "the man\n\u00e9" * 40, "raw": b"x" * 300}
        ],
    }
    for number in range(300)
]


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_plain_is_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "refs.p"
    plain = [{**ref, "sentences": ref["sentences"]} for ref in REFS]
    if protocol < 3:  # where bytes are made by a call
        for ref in plain:
            ref["sentences"] = [{**s, "raw": "x" * 300} for s in ref["sentences"]]  # type: ignore[attr-defined]
    path.write_bytes(pickle.dumps(plain, protocol))
    assert load(path) == plain


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x80\x04Nr\xff\xff\xff\x7f.", "stores a value at index"),
        (b"Np2000000000\n.", "stores a value at index"),
        (b"Np0000000000000000000002000000000\n.", "at an unusable index"),
        (b"B\xff\xff\xff\x7f.", "bytes that it does not contain"),
        (b"T\xff\xff\xff\x7f.", "bytes that it does not contain"),
        (b"\x8b\xff\xff\xff\x7f.", "bytes that it does not contain"),
        (b"\x96" + struct.pack("<Q", 1 << 35) + b".", "bytes that it does not contain"),
        (b"\x8d" + struct.pack("<Q", 1 << 62) + b".", "bytes that it does not contain"),
        (b"]q\0(]q\1(" + b"N" * 3000 + b"e" + b"h\1" * 3000 + b"e.", "expand to more values"),
        (b"]q\0h\0a.", "levels deep"),
        (b"}q\0X\1\0\0\0ah\0s.", "levels deep"),
        (b"]" * 5000 + b"a" * 4999 + b".", "levels deep"),
        (b"cos\nsystem\n(S'id'\ntR.", "would run os.system"),
        (b"X\2\0\0\0osX\6\0\0\0system\x93.", "would run os.system"),
        (b"S'a'\nQ.", "would run persistent object"),
    ],
)
def test_what_is_more_than_its_bytes_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(data)
    with pytest.raises(DataError, match=says):
        load(path)


def test_the_check_reads_as_the_unpickler_does(tmp_path: Path) -> None:
    """A text that looks like an instruction is skipped as text, of any protocol and length."""
    path = tmp_path / "refs.p"
    texts: list[Any] = ["r\xff\xff\xff\x7f", "p2000000000\n.", "B\xff" * 200, "\x96" * 70_000]
    for protocol in range(6):
        path.write_bytes(pickle.dumps(texts, protocol))
        assert load(path) == texts
