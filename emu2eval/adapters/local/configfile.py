"""Configurations in JSON that come with weights, read without torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emu2eval.errors import ModelError

MOST = 1000
"""Layers, blocks or experts of a configuration; each is built as an object, so that a billion never ends."""
_COUNTED = re.compile(r"(?:^|_)(?:layers?(?:_per_block)?|blocks|depths?|experts)$")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises ModelError, also where it counts layers without measure."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"this file is not JSON ({error})", where=path) from None
    if not isinstance(data, dict):
        raise ModelError("this file is not a JSON object", where=path)
    for name, count in _counts(data):
        if count > MOST:
            raise ModelError(
                f"{name} exceeds {MOST:,}, which is implausible", where=path,
                hint="download the file again",
            )  # fmt: skip
    return data


def _counts(data: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers, also those in lists, that say how many layers there are."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _counts(value)
        elif _COUNTED.search(name):
            waiting = [value]
            while waiting:
                each = waiting.pop()
                if isinstance(each, list):
                    waiting += each
                elif isinstance(each, (int, float)):
                    yield name, each
