"""JSON lines, JSON, CSV and TSV as rows that say where they stand."""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.data.damaged import hint
from emu2eval.data.textrows import rows as text_rows
from emu2eval.errors import ConfigError, DataError
from emu2eval.runs.jsontext import whole

Rows = list[tuple[str, Mapping[str, Any]]]
ENDINGS = (".jsonl", ".json", ".csv", ".tsv")


def digest(path: Path) -> str:
    """Hex sha256 of the file. Raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def read(path: Path) -> tuple[Rows, Mapping[str, Any]]:
    """(rows, what stands around them) of a file.

    A JSON file is a list of objects, an object whose `logs` are one, or one that gives an answer to
    each id. Raises DataError with file and line, ConfigError for another kind of file.
    """
    if path.suffix not in ENDINGS:
        raise ConfigError(
            f"answers must be in {', '.join(ENDINGS)} files or a folder of images", where=path
        )
    try:
        if path.suffix == ".json" or (path.suffix == ".jsonl" and _is_list(path)):
            return _json(path)
        separated = ((row.where, row.cells) for row in text_rows(path, large=False))
        rows = list(_lines(path) if path.suffix == ".jsonl" else separated)
    except csv.Error as error:
        raise DataError(f"the file is not a text table: {error}", where=path) from None
    except UnicodeDecodeError as error:
        raise DataError(f"the file is not UTF-8 text: {error}", where=path) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    return _some(rows, path), {}


def parse(path: Path) -> Any:
    """A JSON file. Raises DataError with its line where it is damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    return _decoded(data, path, 1)


def _is_list(path: Path) -> bool:
    """One JSON list under the name of JSON lines, as some programs write it."""
    with path.open("rb") as file:
        return file.read(512).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = _decoded(line.strip(), path, number)
            if not isinstance(row, dict):
                raise DataError("the line is not a JSON object", where=f"{path}:{number}")
            yield f"{path}:{number}", row


def _decoded(data: bytes, path: Path, line: int) -> Any:
    """A JSON text that begins at that line of the file."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # Python writes what is not JSON: NaN and Infinity for what has no error bar, halves of characters.
        found = json.loads(data)
        return whole(found) if b"\\ud" in data.lower() else found
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        why = f"{error.msg} (column {error.colno})"
    except (ValueError, RecursionError) as error:
        # Bytes that are no text, a number of thousands of digits, lists in lists without end.
        why = str(error).partition(";")[0]
    raise DataError(f"not valid JSON: {why}", where=f"{path}:{line}", hint=hint(data))


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"the file cannot be read ({error.strerror})", where=path)


def _json(path: Path) -> tuple[Rows, Mapping[str, Any]]:
    content = parse(path)
    if isinstance(content, dict) and isinstance(content.get("logs"), list):
        around = {name: value for name, value in content.items() if name != "logs"}
        return _listed(content["logs"], path, "$.logs"), around
    if isinstance(content, dict):
        # As MMMU's: the answer by id.
        rows: Rows = [(f"{path}:$.{n}", {"id": n, "answer": v}) for n, v in content.items()]
        return _some(rows, path), {}
    if isinstance(content, list):
        return _listed(content, path, "$"), {}
    raise DataError("the file contains neither a list nor an object", where=path)


def _listed(items: list[Any], path: Path, at: str) -> Rows:
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise DataError("not a JSON object", where=f"{path}:{at}[{number}]")
    return _some([(f"{path}:{at}[{number}]", item) for number, item in enumerate(items)], path)


def _some(rows: Rows, path: Path) -> Rows:
    if not rows:
        raise DataError("the file contains no answers", where=path)
    return rows
