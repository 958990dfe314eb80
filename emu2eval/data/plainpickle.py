"""Pickles that hold plain data only, such as RefCOCO's: read without running anything in them."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any, NoReturn

from emu2eval.data.damaged import damaged
from emu2eval.errors import DataError

DEEPEST = 32
"""Lists and dicts inside each other."""


class _Plain(pickle.Unpickler):
    """Dicts, lists, tuples, texts, numbers, booleans and None need no import; all else does."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _Import(f"{module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        raise _Import(f"persistent object {pid!r}")


class _Import(Exception):
    pass


class _Swollen(Exception):
    """A few bytes stand for more memory than the file has room to fill."""


def load(path: Path) -> Any:
    """The plain data of a pickle, of Python 2 too, whose texts become str.

    Raises DataError where the file is no pickle or wants anything imported: nothing of it is run. Also where
    it says more than its bytes hold, by a length or a place beyond its end or by naming one list many times.
    """
    data = path.read_bytes()
    try:
        _check_lengths(data)
        found = _Plain(io.BytesIO(data), encoding="utf-8", errors="replace").load()
        _check_values(found, len(data))
    except _Import as wanted:
        raise DataError(
            f"opening the file would run {wanted}, but it should contain plain data only, so it was not "
            "opened",
            where=path,
            hint="do not open it with other tools either; download it again from the official source",
        ) from None
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise damaged(path, data, f"not a pickle ({error})") from None
    return found


# Instructions whose arguments have a fixed length or end with their line, and that keep nothing beyond the
# first million places: skipped in one go.
_FIXED = re.compile(
    rb"(?:[()\]}0-2Nadelstu\x85-\x89\x8f-\x91\x94]|[hqK\x80].|M..|[Jj]....|G.{8}|[FILSVg][^\n]*\n|p\d{1,6}\n|r..[\0-\x0f]\0)+",
    re.DOTALL,
)
_LENGTHS = {b"U": 1, b"\x8a": 1, b"\x8c": 1, b"C": 1, b"T": 4, b"X": 4, b"B": 4, b"\x8b": 4} | {
    b"\x8d": 8,
    b"\x8e": 8,
    b"\x96": 8,
}
_FRAME = b"\x95"
_PUT = re.compile(rb"r(....)|p(\d{1,18})\n", re.DOTALL)


def _check_lengths(data: bytes) -> None:
    """Raises _Swollen for a length, or a place to keep a value at, that is beyond the file's own.

    The unpickler takes memory for both before it looks at what follows. Where it will stop anyway, at the end
    or at an instruction that plain data do not have, this does.
    """
    at = 0
    while at < len(data):
        op = data[at : at + 1]
        if skipped := _FIXED.match(data, at):
            at = skipped.end()
        elif size := _LENGTHS.get(op):
            length = int.from_bytes(data[at + 1 : at + 1 + size], "little")
            at += 1 + size + length
            if at > len(data):
                raise _Swollen(f"it announces {length:,} bytes that it does not contain")
        elif op == _FRAME:
            at += 9
        elif kept := _PUT.match(data, at):
            place = int.from_bytes(kept[1], "little") if kept[1] else int(kept[2])
            if place > len(data):
                raise _Swollen(
                    f"it stores a value at index {place:,} in a file of {len(data):,} bytes"
                )
            at = kept.end()
        elif op == b"p":
            raise _Swollen("it stores a value at an unusable index")
        else:
            return


def _check_values(found: Any, most: int) -> None:
    """Raises _Swollen where a value holds itself, is too deep, or more than `most` values stand in it.

    Every value takes a byte at least. One list that is named many times would be as many lists to a reader.
    """
    counted: dict[int, int] = {}

    def count(value: Any, depth: int) -> int:
        items = value.items() if isinstance(value, dict) else value
        total = counted.get(id(value))
        if total is None:
            if depth > DEEPEST:
                raise _Swollen(f"it is nested more than {DEEPEST} levels deep")
            total = len(value)
            for item in items:
                for each in item if isinstance(value, dict) else (item,):
                    if isinstance(each, (list, tuple, dict, set, frozenset)):
                        total += count(each, depth + 1)
            counted[id(value)] = total
        if total > most:
            raise _Swollen(f"its {most:,} bytes expand to more values than that")
        return total

    if isinstance(found, (list, tuple, dict, set, frozenset)):
        count(found, 1)
