"""Lists of files to bring: a JSON file of the data names each with its address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.doctor.get.archive import Unsafe, safe
from emu2eval.errors import ConfigError, DataError
from emu2eval.spec.remote import FileList, check_address


def read_list(path: Path, listed: FileList) -> Iterator[tuple[str, str]]:
    """(name, address) of each file.

    Raises DataError for a list of another kind, or one that leads elsewhere.
    """
    try:
        found: Any = msgspec.json.decode(path.read_bytes())
        entries = [(each[listed.name], each[listed.url]) for each in found[listed.each]]
    except (OSError, msgspec.MsgspecError, LookupError, TypeError):
        raise DataError(
            f"not a list of files under {listed.each!r}, each with {listed.name!r} and {listed.url!r}",
            where=path,
            hint="it has another version, or is damaged: remove it, and run the same command again",
        ) from None
    seen: set[str] = set()
    for name, url in entries:
        _check(path, listed, name, url)
        if name not in seen:
            seen.add(name)
            yield name, url


def _check(path: Path, listed: FileList, name: Any, url: Any) -> None:
    try:
        if not isinstance(name, str) or not isinstance(url, str) or len(safe(name)) != 1:
            raise Unsafe(f"{name!r} is not a file name")
        if not url.startswith(listed.below):
            raise Unsafe(f"{url!r} is not under {listed.below}")
        check_address(url)
    except (Unsafe, ConfigError) as error:
        raise DataError(f"the list contains an unexpected entry: {error}", where=path) from None
