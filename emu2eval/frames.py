"""Frames of video files, decoded late and a video at a time. PyAV is imported only to decode."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.errors import MissingExtra, PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

_KEPT = 4
"""Videos whose wanted frames are kept decoded: a model asks for those of one video in a row."""
_CUT_OFF = 0.9
"""A file with less than this share of the frames that its header names is cut off.

Headers of old AVI files are off by a few frames; those count as whole.
"""


def spread(total: int, count: int) -> list[int]:
    """Where `count` frames stand in a video of `total`: in the middle of equal parts.

    >>> spread(160, 4), spread(3, 4)
    ([20, 60, 100, 140], [0, 1, 1, 2])
    """
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def digest(path: str, frame: tuple[int, int]) -> str:
    """Hex sha256 of the video's own sha256 and the frame's place. Reads each file once, decodes nothing.

    Raises PictureError where the file is not there, MissingExtra where nothing could decode it later.
    """
    _require()
    named = f"{_digest(path, *_state(path))} frame {frame[0]} of {frame[1]}"
    return hashlib.sha256(named.encode()).hexdigest()


def size(path: str) -> tuple[int, int]:
    """Width and height in pixels, as the file's header has them."""
    with _opened(path) as (_, stream):
        return stream.width, stream.height


def load(path: str, frame: tuple[int, int]) -> Image:
    """The frame in RGB. Raises PictureError where the file is cut off, damaged or no video."""
    index, count = frame
    return _decoded(path, *_state(path), count)[index].copy()


@lru_cache(maxsize=1 << 14)
def _digest(path: str, changed: int, length: int) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PictureError(f"the video cannot be read ({error.strerror})", where=path) from None


@lru_cache(maxsize=_KEPT)
def _decoded(path: str, changed: int, length: int, count: int) -> tuple[Image, ...]:
    total, named = _count(path)
    if total < _CUT_OFF * named or not total:
        raise _damaged(path, f"it holds {total} of {named} frames")
    found, seen = _pick(path, spread(total, count))
    if len(found) < count and seen:
        # Some packets hold no picture of their own, so fewer frames come out than were counted.
        found, seen = _pick(path, spread(seen, count))
    if not seen:
        raise _damaged(path, "no frame can be decoded")
    return tuple(found)


def _count(path: str) -> tuple[int, int]:
    """(frames in the file, counted without decoding; frames that its header names, 0 = not said)."""
    with _opened(path) as (container, stream):
        return sum(1 for packet in container.demux(stream) if packet.size), stream.frames


def _pick(path: str, wanted: Sequence[int]) -> tuple[list[Image], int]:
    """The frames at these places, in order, and how many were decoded until the last of them was there.

    From the start on: seeking is not exact in every format, and clips are short.
    """
    found: list[Image] = []
    seen = 0
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            found += [frame.to_image()] * wanted.count(seen)
            seen += 1
            if len(found) == len(wanted):
                break
    return found, seen


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """(container, its first video stream)."""
    _require()
    import av

    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise _damaged(path, "it holds no pictures")
            yield container, container.streams.video[0]
    except (av.FFmpegError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def _state(path: str) -> tuple[int, int]:
    """What changes when the file does: time of its last change, and its length."""
    try:
        stat = os.stat(path)  # noqa: PTH116 (a Path costs more than the call)
    except OSError as error:
        raise PictureError(
            "the video does not exist"
            if isinstance(error, FileNotFoundError)
            else f"the video cannot be read ({error.strerror})",
            where=path,
            hint="check the data root ($EMU2EVAL_DATA) and that the archive was unpacked whole",
        ) from None
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=1)
def _require() -> None:
    from importlib.util import find_spec

    if find_spec("av") is None:
        raise MissingExtra("av", "video", why="decoding video")


def _damaged(path: str, why: str) -> PictureError:
    return PictureError(
        f"the video is cut off, damaged or no video ({why})",
        where=path,
        hint="download or copy it again",
    )
