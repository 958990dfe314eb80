"""Images: digest, check, open and encode. Only here, and in `frames`, is decoded what others encoded."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from emu2eval.errors import DataError, ImageError, UserError
from emu2eval.media import arrowfile, frames, parquetfile, pixels, tarmember, tsvfile
from emu2eval.media.nearby import instead
from emu2eval.media.remembered import State, files, state_of
from emu2eval.types import Image, this_node

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MAX_PIXELS = 178_956_970
"""Refuse larger images: twice Pillow's own warning limit, 0.5 GiB once decoded."""

MOST_MEMORY = 3 << 29
"""Bytes that decoding an image may take, see `pixels.cost`."""

LARGEST_FILE = 1 << 29
"""Bytes of an encoded image."""

FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "PPM",
    "JPEG2000",
    "AVIF",
    "ICO",
    "TGA",
    "MPO",
)
"""What is opened. Pillow knows others, of which EPS hands the file to Ghostscript, a program that runs it."""

BYTES = "an image given as bytes"
_REMEMBERED = 1 << 18
_infos: OrderedDict[tuple[str, str | None, State], ImageInfo] = OrderedDict()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """digest: hex sha256 of the encoded bytes; width, height: pixels as stored.

    orientation: EXIF's, 1 = upright as stored. plain: any decoder makes the same of the bytes as `load`, see
    `pixels.plain`.
    """

    digest: str
    width: int
    height: int
    format: str
    orientation: int = 1
    plain: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Goes along with every image that is sent to a replica; a dataclass would take five times as long.
        known = (self.digest, self.width, self.height, self.format, self.orientation, self.plain)
        return ImageInfo, known

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as `load` gives the image."""
        return (self.width, self.height) if self.orientation < 5 else (self.height, self.width)


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(ImageInfo).decode


def info(image: Image) -> ImageInfo:
    """Digest and size, after checking that the image is whole. Remembered per unchanged file.

    Raises ImageError where the file is missing, empty, truncated, too large or not an image.
    """
    if image.frame is not None and image.path is not None:
        _promised(image)
        return ImageInfo(digest(image), *frames.size(image.path), "video")
    if image._info is None:
        found = _info_of_file(image) if image.path is not None else None
        found = found or _examine(image.data or b"", BYTES)
        # One image is asked for its digest many times; the value is frozen to everybody else.
        object.__setattr__(image, "_info", found)
    known: ImageInfo = image._info
    return known


def _info_of_file(image: Image) -> ImageInfo:
    path = image.path or ""
    try:
        stat = os.stat(path)  # noqa: PTH116 (a Path costs more than the call)
    except OSError as error:
        raise _unreadable(path, error) from None
    if not S_ISREG(stat.st_mode) and not S_ISDIR(stat.st_mode):
        raise ImageError("not a file", where=path)
    key = (path, image.member, state_of(stat))
    known = _infos.get(key)
    if known is None:
        # That a folder holds other files does not show in its state.
        found = _recalled(image, key[-1]) if S_ISREG(stat.st_mode) else None
        known = _infos[key] = found or _examine(read(image), where(image))
        if found is None and S_ISREG(stat.st_mode):
            files().keep(where(image), key[-1], _pack(known))
        if len(_infos) > _REMEMBERED:
            _infos.popitem(last=False)
    return known


def _recalled(image: Image, state: State) -> ImageInfo | None:
    """What an earlier process found in the same file."""
    found = files().recall(where(image), state)
    try:
        return _unpack(found) if found is not None else None
    except msgspec.MsgspecError:
        return None  # of another release


def stored(image: Image) -> tuple[tuple[int, int], int] | None:
    """Width and height as stored, and EXIF's orientation, by its header alone; None where it has none.

    For readers whose files speak of places in an image: whether the image is whole is told when it is used.
    """
    try:
        if image.path is not None and image.member is None and image.frame is None:
            if not S_ISREG(os.stat(image.path).st_mode):  # noqa: PTH116
                return None  # a pipe would be waited for
            with Path(image.path).open("rb") as file:
                opened = _open_file(file)
                return pixels.stored_size(opened), pixels.orientation(opened)
        known = info(image)
    except Exception:  # see `_examine`
        return None
    return (known.width, known.height), known.orientation


def digest(image: Image) -> str:
    """Hex sha256 of the encoded bytes: the image's identity in keys, caches and leakage checks.

    That of a video's frame is made without decoding it, see `frames.digest`.
    """
    if image.frame is not None and image.path is not None:
        if image._digest is None:
            object.__setattr__(image, "_digest", frames.digest_of_file(image.path))
        return frames.digest(image._digest or "", image.frame, image.segment)
    return image._digest or info(image).digest


def read(image: Image) -> bytes:
    """The encoded bytes; those of a video's frame as PNG.

    Raises ImageError for a file whose bytes are not those that the image was known by, here or on the node
    that sent it.
    """
    if image.frame is not None:
        return from_pil(load(image)).data or b""
    if image.path is None:
        return image.data or b""
    with _as_sent(image):
        try:
            if image.member is not None:
                data = _kept_in(image.member)(image.path, image.member)
            else:
                with Path(image.path).open("rb") as file:
                    data = file.read(LARGEST_FILE + 1)
        except OSError as error:
            raise _unreadable(image.path, error) from None
    known: ImageInfo | None = image._info
    wanted = image._digest or (known.digest if known is not None else None)
    if wanted is not None and (found := hashlib.sha256(data).hexdigest()) != wanted:
        raise _exchanged(image, wanted, found)
    return data


def confirm(image: Image) -> None:
    """Raises ImageError where the file is not the one that the image is known by; read once if unchanged.

    For whoever has its bytes read by another program.
    """
    if image.frame is not None:
        _promised(image)
    elif image.path is not None:
        with _as_sent(image):
            found = digest(Image(image.path, member=image.member))
        if found != digest(image):
            raise _exchanged(image, digest(image), found)


def _promised(frame: Image) -> None:
    """The same for the video that the frame is of."""
    if frame._digest is None or frame.path is None:
        return
    with _as_sent(frame):
        found = frames.digest_of_file(frame.path)
    if found != frame._digest:
        raise _exchanged(frame, frame._digest, found)


@contextmanager
def _as_sent(image: Image) -> Iterator[None]:
    """What is wrong with a file that another node promised is that this node has not got that file."""
    try:
        yield
    except (ImageError, DataError) as error:
        if image._node in (None, this_node()):
            raise
        raise ImageError(error.what, where=error.where, hint=_copy(image)) from None


def _exchanged(image: Image, wanted: str, found: str) -> ImageError:
    what = "image" if image.frame is None else "video"
    sent = image._node not in (None, this_node())
    if sent:
        said = f"the {what} is not the one that the request was made with on {image._node}"
    elif image.frame is None and image._digest is not None:
        said = f"the {what} differs from the one that was stored"
    else:
        said = f"the {what} has changed since its request was made"
    return ImageError(
        f"{said}: its sha256 is {found}, not {wanted}",
        where=where(image),
        hint=_copy(image) if sent else "run the same evaluation again",
    )


def _copy(image: Image) -> str:
    return (
        f"copy the data to this node ({this_node()}), under the same path as on {image._node}, or keep them "
        "in a folder that all nodes share"
    )


def _kept_in(member: str) -> Callable[[str, str], bytes]:
    """What reads an image inside a file of this kind."""
    kinds = (
        (tsvfile.PREFIX, tsvfile.read_cell),
        (arrowfile.PREFIX, arrowfile.read_cell),
        (tarmember.PREFIX, tarmember.read_cell),
    )
    found = (read for prefix, read in kinds if member.startswith(prefix))
    return next(found, parquetfile.read_cell)


def load(image: Image, side: int | None = None) -> PILImage:
    """Decoded to RGB in 8 bits, upright, transparency laid over white: what a viewer shows.

    Of an animated file the first frame. side: pixels of the longer side that are enough for a small copy, of
    which a JPEG is decoded no larger than it must be.
    """
    if image.frame is not None and image.path is not None:
        _promised(image)
        return frames.load(image.path, image.frame, image.segment)
    place = where(image)
    info(image)
    opened = _open(read(image), place)
    try:
        if side is not None and opened.format == "JPEG":
            part = min(1.0, side / max(opened.size))
            opened.draft(None, (ceil(opened.width * part), ceil(opened.height * part)))
        return pixels.shown(opened)
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise _damaged(place, error) from None


def where(image: Image) -> str:
    """Where a message says that the image is."""
    if image.path is None:
        return BYTES
    return image.path if image.member is None else f"{image.path}#{image.member}"


def from_pil(image: PILImage) -> Image:
    """A PIL image of any mode as an Image, encoded as PNG: the same bytes for the same pixels.

    Lossless, but for modes that a PNG cannot hold, which become RGB.
    """
    buffer = io.BytesIO()
    pixels.storable(image).save(buffer, format="PNG")
    return Image(data=buffer.getvalue())


def _examine(data: bytes, where: str) -> ImageInfo:
    image = _open(data, where)
    name = image.format or "?"
    width, height = pixels.stored_size(image)
    found = pixels.orientation(image)
    try:
        plain = pixels.plain(image, data)
        if name == "PNG":
            image.verify()  # checksums of every chunk, without decoding
            whole = data.rstrip(b"\0")[-8:-4] == b"IEND"
        else:
            # A complete JPEG ends in its end mark. Anything after it, or another format: decode.
            whole = name == "JPEG" and data[-2:] == b"\xff\xd9"
        behind = name == "PNG" and pixels.says_more_behind(data)
        if not whole or behind:
            with _open(data, where) as again:
                again.load()
                if behind:
                    found = pixels.orientation(again)
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise _damaged(where, error) from None
    plain = plain and found == 1
    return ImageInfo(hashlib.sha256(data).hexdigest(), width, height, name, found, plain)


def _open(data: bytes, where: str) -> PILImage:
    from PIL import Image as PILImage
    from PIL import UnidentifiedImageError

    if not data:
        raise ImageError(
            "the image is empty (0 bytes)", where=where, hint="download or copy it again"
        )
    if len(data) > LARGEST_FILE:
        raise ImageError(
            f"the image file is larger than {LARGEST_FILE >> 20} MiB and is not opened", where=where
        )
    try:
        image = _open_file(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError(
            f"this is not an image in a known format (first bytes {data[:8]!r})",
            where=where,
            hint="check that the download is the image and not an error page",
        ) from None
    except PILImage.DecompressionBombError:
        raise _too_large(where, None) from None
    except Exception as error:  # as above
        raise _damaged(where, error) from None
    if image.size[0] * image.size[1] > MAX_PIXELS:
        raise _too_large(where, image.size)
    memory = pixels.cost(image)
    if memory > MOST_MEMORY:
        width, height = image.size
        raise ImageError(
            f"decoding {width} x {height} pixels of {image.format} in {image.mode} would take "
            f"{memory / (1 << 30):.1f} GiB, more than the limit of {MOST_MEMORY / (1 << 30):.1f}",
            where=where,
            hint="store a smaller copy; models resize images to far fewer pixels anyway",
        )
    return image


def _open_file(file: BinaryIO) -> PILImage:
    from PIL import Image as PILImage

    with warnings.catch_warnings():
        # Our own limit replaces Pillow's warning at half of it; metadata that it cannot read are no fault.
        warnings.simplefilter("ignore")
        return PILImage.open(file, formats=_known_formats())


@cache
def _known_formats() -> tuple[str, ...]:
    from PIL import Image as PILImage

    PILImage.init()
    return tuple(name for name in FORMATS if name in PILImage.OPEN)


def _too_large(where: str, size: tuple[int, int] | None) -> ImageError:
    shown = f" ({size[0]} x {size[1]} pixels)" if size else ""
    return ImageError(
        f"the image is larger than {MAX_PIXELS:,} pixels{shown} and is not opened",
        where=where,
        hint="store a smaller copy; models resize images to far fewer pixels anyway",
    )


def _damaged(where: str, error: Exception) -> ImageError:
    return ImageError(
        f"the image is truncated or damaged ({error})",
        where=where,
        hint="download or copy it again",
    )


def _unreadable(path: str, error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(
            "the image does not exist",
            where=path,
            hint=instead(path)
            or "check the path (`root` and `folder` in the task file; $EMU2EVAL_DATA for shipped tasks) and "
            "that the archive was unpacked completely; "
            "`emu2eval data check TASK` lists all missing images; --skip-missing skips such "
            "samples and counts them",
        )
    return ImageError(f"the image cannot be read ({error.strerror})", where=path)
