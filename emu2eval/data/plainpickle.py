"""Pickles that hold plain data only, such as RefCOCO's: read without running anything in them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from emu2eval.data.damaged import damaged
from emu2eval.errors import DataError


class _Plain(pickle.Unpickler):
    """Dicts, lists, tuples, texts, numbers, booleans and None need no import; all else does."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _Import(f"{module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        raise _Import(f"persistent object {pid!r}")


class _Import(Exception):
    pass


def load(path: Path) -> Any:
    """The plain data of a pickle, of Python 2 too, whose texts become str.

    Raises DataError where the file is no pickle or wants anything imported: nothing of it is run.
    """
    data = path.read_bytes()
    try:
        return _Plain(io.BytesIO(data), encoding="utf-8", errors="replace").load()
    except _Import as wanted:
        raise DataError(
            f"the file asks to run {wanted} when it is opened; it should hold plain data only, so it "
            "was not opened",
            where=path,
            hint="do not open it in other ways either; fetch it again from the official source",
        ) from None
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise damaged(path, data, f"no pickle ({error})") from None
