"""Which samples show a file that does not exist: each folder is listed once, nothing is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from emu2eval.types import Image, Sample, Video


def absent(samples: Iterable[Sample]) -> list[str]:
    """The ids of samples with an image or a video, also in answer and references, whose file is not there."""
    folders: dict[str, frozenset[str]] = {}
    return [s.id for s in samples if any(not _there(path, folders) for path in files(s))]


def lost(paths: Iterable[str]) -> list[str]:
    """Those of the paths that do not exist, sorted, each once."""
    folders: dict[str, frozenset[str]] = {}
    return sorted({path for path in paths if not _there(path, folders)})


def files(sample: Sample) -> Iterator[str]:
    """The path of each file that the sample shows, or wants to be shown as an answer."""
    for part in (*sample.images, sample.answer, *sample.references):
        if isinstance(part, Video):
            yield from dict.fromkeys(frame.path for frame in part.frames if frame.path is not None)
        elif isinstance(part, Image) and part.path is not None:
            yield part.path


def _there(path: str, folders: dict[str, frozenset[str]]) -> bool:
    folder, _, name = path.rpartition("/")
    if folder not in folders:
        folders[folder] = _listed(folder or ".")
    return name in folders[folder]


def _listed(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:
        return frozenset()
