"""Frames of video files, decoded late and a video at a time. PyAV is imported only to decode."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.errors import ImageError, MissingExtra
from emu2eval.media import pixels
from emu2eval.media.nearby import instead
from emu2eval.media.remembered import State, files, state_of
from emu2eval.types import Segment

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 1 << 26
"""Of a frame: twice those of 8K."""

_ALONE = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,gif,rm"
    ",h264,hevc,m4v,nut,ivf,dv,wav,mp3,flac",
    "protocol_whitelist": "file",
}
"""What FFmpeg may take a file for: no playlist, which would have it open other files and addresses."""

_SHA256 = 32
_KEPT = 4
"""Videos whose wanted frames are kept decoded: a model asks for those of one video in a row."""
_CUT_OFF = 0.9
"""A file with less than this share of the frames that its header names is cut off.

Headers of old AVI files are off by a few frames; those count as whole.
"""
_MISSING = 1.0
"""Seconds that a file may end before a wanted frame, which is then its last one."""


def spread(total: int, count: int) -> list[int]:
    """Where `count` frames stand in a video of `total`: in the middle of equal parts.

    >>> spread(160, 4), spread(3, 4)
    ([20, 60, 100, 140], [0, 1, 1, 2])
    """
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def named(segment: Segment) -> str:
    """
    >>> named(Segment(648.0, 658.0)), named(Segment(18, 166, in_frames=True))
    ('648 to 658 s', 'frames 18 to 166')
    """
    if segment.in_frames:
        return f"frames {segment.start:.0f} to {segment.end:.0f}"
    return f"{segment.start:g} to {segment.end:g} s"


def digest_of_file(path: str) -> str:
    """Hex sha256 of the video. Each file is read once, as long as it does not change.

    Raises ImageError where the file is not there, MissingExtra where nothing could decode it later.
    """
    _require()
    return _digest(path, _state(path))


def digest(video: str, frame: tuple[int, int], segment: Segment | None = None) -> str:
    """Hex sha256 of the video's own sha256 and the frame's place. Decodes nothing."""
    place = f"{video} frame {frame[0]} of {frame[1]}"
    if segment is not None:
        place += f" from {segment.start!r} to {segment.end!r}{' frames' * segment.in_frames}"
    return hashlib.sha256(place.encode()).hexdigest()


def size(path: str) -> tuple[int, int]:
    """Width and height of its frames in pixels, as `load` gives them."""
    return _size(path, _state(path))


def load(path: str, frame: tuple[int, int], segment: Segment | None = None) -> Image:
    """The frame in RGB, upright. Raises ImageError where the file is cut off, damaged or no video."""
    index, count = frame
    return _decoded(path, _state(path), count, segment)[index].copy()


@lru_cache(maxsize=1 << 14)
def _digest(path: str, state: State) -> str:
    known = files().recall(path, state)
    if known is not None and len(known) == _SHA256:
        return known.hex()
    try:
        with Path(path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise ImageError(f"the video cannot be read ({error.strerror})", where=path) from None
    files().keep(path, state, found.digest())
    return found.hexdigest()


@lru_cache(maxsize=1 << 14)
def _size(path: str, state: State) -> tuple[int, int]:
    # The header has no say in how the frames are turned; the first of them has.
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            return _shown(frame).size
    raise _damaged(path, "no frame can be decoded")


@lru_cache(maxsize=_KEPT)
def _decoded(path: str, state: State, count: int, segment: Segment | None) -> tuple[Image, ...]:
    if segment is not None and not segment.in_frames:
        return tuple(_pick_times(path, segment, count))
    total, promised = _count(path)
    if total < _CUT_OFF * promised or not total:
        raise _damaged(path, f"it contains {total} of {promised} frames")
    start, end = (int(segment.start), int(segment.end)) if segment else (0, total)
    if start >= min(end, total):
        raise _damaged(path, f"it contains {total} frames, none in the segment {start} to {end}")
    found, seen = _pick(path, [start + place for place in spread(min(end, total) - start, count)])
    if len(found) < count and seen > start:
        # Some packets hold no image of their own, so fewer frames come out than were counted.
        found, seen = _pick(path, [start + place for place in spread(seen - start, count)])
    if len(found) < count:
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
            if seen in wanted:
                found += [_shown(frame)] * wanted.count(seen)
            seen += 1
            if len(found) == len(wanted):
                break
    return found, seen


def _pick_times(path: str, segment: Segment, count: int) -> list[Image]:
    """The frames that are on the screen at `count` times, in the middle of equal parts of the segment."""
    part = (segment.end - segment.start) / count
    wanted = [segment.start + (i + 0.5) * part for i in range(count)]
    # Such videos are long. Where jumping lands too late, they are decoded from their start.
    return _shown_at(path, wanted, jump=True) or _shown_at(path, wanted, jump=False) or []


def _shown_at(path: str, wanted: Sequence[float], *, jump: bool) -> list[Image] | None:
    """None where the first frame after the jump comes later than the first one wanted."""
    import av

    found: list[Image] = []
    shown: Any = None
    time = 0.0
    with _opened(path) as (container, stream):
        begin = float((stream.start_time or 0) * stream.time_base)
        if jump:
            container.seek(int((wanted[0] + begin) * av.time_base), backward=True)
        for frame in container.decode(stream):
            time = float(frame.time or 0.0) - begin
            if shown is None and jump and time > wanted[0]:
                return None
            while len(found) < len(wanted) and time > wanted[len(found)]:
                found.append(_shown(shown or frame))
            shown = frame
            if len(found) == len(wanted):
                return found
        if shown is None or time < wanted[-1] - _MISSING:
            raise _damaged(
                path, f"it ends at {time:.1f} s, but a frame at {wanted[-1]:.1f} s is needed"
            )
        return found + [_shown(shown)] * (len(wanted) - len(found))


def _shown(frame: Any) -> Image:
    """A decoded frame in RGB, set upright as its file says: phones film on their side."""
    if frame.width * frame.height > MAX_PIXELS:  # it may differ from what the header says
        raise _too_large("a frame", frame.width, frame.height)
    image: Image = frame.to_image()
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return image if matrix is None else pixels.turned(image, _orientation(bytes(matrix)))


def _orientation(matrix: bytes) -> int:
    """A display matrix as an orientation of EXIF; 1 where it is none of the eight.

    It maps (x, y) to (a x + c y, b x + d y), y downwards, numbers in 16.16 (ISO/IEC 14496-12, 6.2.2).
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    signs = tuple(round(number / 65536) for number in (a, b, c, d))
    return _ORIENTATIONS.get(signs, 1)


_ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """(container, its first video stream)."""
    _require()
    import av

    try:
        with av.open(path, options=_ALONE) as container:
            if not container.streams.video:
                raise _damaged(path, "it contains no images")
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                raise _too_large(path, stream.width, stream.height)
            yield container, stream
    except (av.FFmpegError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def _state(path: str) -> State:
    """What changes when the file does."""
    try:
        stat = os.stat(path)  # noqa: PTH116 (a Path costs more than the call)
    except OSError as error:
        raise ImageError(
            "the video does not exist"
            if isinstance(error, FileNotFoundError)
            else f"the video cannot be read ({error.strerror})",
            where=path,
            hint=instead(path)
            or "check the path (`root` and `folder` in the task file; $EMU2EVAL_DATA for shipped tasks) and "
            "that the archive was unpacked completely; "
            "--skip-missing skips such samples and counts them",
        ) from None
    return state_of(stat)


@lru_cache(maxsize=1)
def _require() -> None:
    from importlib.util import find_spec

    if find_spec("av") is None:
        raise MissingExtra("av", "video", why="decoding video")


def _too_large(path: str, width: int, height: int) -> ImageError:
    return ImageError(
        f"the frames have {width} x {height} pixels, more than {MAX_PIXELS:,}, and are not decoded",
        where=path,
        hint="store a smaller copy; models resize images to far fewer pixels anyway",
    )


def _damaged(path: str, why: str) -> ImageError:
    return ImageError(
        f"the file is truncated, damaged or not a video ({why})",
        where=path,
        hint="download or copy it again",
    )
