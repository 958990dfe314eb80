"""Pictures: digest, check, open and encode. Only here, and in `frames`, is decoded what others encoded."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emu2eval import frames, parquetfile, tsvfile
from emu2eval.errors import PictureError
from emu2eval.types import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 178_956_970
"""Refuse larger pictures: twice Pillow's own warning limit, 0.5 GiB once decoded."""

BYTES = "a picture given as bytes"
_REMEMBERED = 1 << 17
_infos: OrderedDict[tuple[str, str | None, int, int], PictureInfo] = OrderedDict()


@dataclass(frozen=True, slots=True)
class PictureInfo:
    """digest: hex sha256 of the encoded bytes; width, height: pixels as stored.

    orientation: EXIF's, 1 = upright as stored.
    """

    digest: str
    width: int
    height: int
    format: str
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as `load` gives the picture."""
        return (self.width, self.height) if self.orientation < 5 else (self.height, self.width)


def info(picture: Picture) -> PictureInfo:
    """Digest and size, after checking that the picture is whole. Remembered per unchanged file.

    Raises PictureError where the file is missing, empty, truncated, too large or not a picture.
    """
    if picture.frame is not None and picture.path is not None:
        return PictureInfo(digest(picture), *frames.size(picture.path), "video")
    if picture._info is None:
        found = _info_of_file(picture) if picture.path is not None else None
        found = found or _examine(picture.data or b"", BYTES)
        # One picture is asked for its digest many times; the value is frozen to everybody else.
        object.__setattr__(picture, "_info", found)
    known: PictureInfo = picture._info
    return known


def _info_of_file(picture: Picture) -> PictureInfo:
    path = picture.path or ""
    try:
        stat = os.stat(path)  # noqa: PTH116 (a Path costs more than the call)
    except OSError as error:
        raise _unreadable(path, error) from None
    key = (path, picture.member, stat.st_mtime_ns, stat.st_size)
    known = _infos.get(key)
    if known is None:
        known = _infos[key] = _examine(read(picture), where(picture))
        if len(_infos) > _REMEMBERED:
            _infos.popitem(last=False)
    return known


def digest(picture: Picture) -> str:
    """Hex sha256 of the encoded bytes: the picture's identity in keys, caches and leakage checks.

    That of a video's frame is made without decoding it, see `frames.digest`.
    """
    if picture.frame is not None and picture.path is not None:
        return frames.digest(picture.path, picture.frame, picture.segment)
    return picture._digest or info(picture).digest


def read(picture: Picture) -> bytes:
    """The encoded bytes; those of a video's frame as PNG."""
    if picture.frame is not None:
        return from_image(load(picture)).data or b""
    if picture.path is None:
        return picture.data or b""
    try:
        if picture.member is not None:
            if picture.member.startswith(tsvfile.PREFIX):
                return tsvfile.read_cell(picture.path, picture.member)
            return parquetfile.read_cell(picture.path, picture.member)
        return Path(picture.path).read_bytes()
    except OSError as error:
        raise _unreadable(picture.path, error) from None


def load(picture: Picture) -> Image:
    """Decoded to RGB, upright (EXIF orientation applied), transparency laid over white."""
    from PIL import Image, ImageOps

    if picture.frame is not None and picture.path is not None:
        return frames.load(picture.path, picture.frame, picture.segment)
    place = where(picture)
    info(picture)
    image = _open(read(picture), place)
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(place, error) from None
    if upright.mode == "RGB":
        return upright
    if upright.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit greys to white; keep the upper byte instead.
        upright = upright.point(lambda value: value / 256).convert("L")
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return upright.convert("RGB")


def where(picture: Picture) -> str:
    """Where a message says that the picture is."""
    if picture.path is None:
        return BYTES
    return picture.path if picture.member is None else f"{picture.path}#{picture.member}"


def from_image(image: Image) -> Picture:
    """An image in memory as a Picture, encoded as PNG: lossless, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return Picture(data=buffer.getvalue())


def _examine(data: bytes, where: str) -> PictureInfo:
    image = _open(data, where)
    name = image.format or "?"
    width, height = image.size
    try:
        orientation = _orientation(image, name)
        if name == "PNG":
            image.verify()  # checksums of every chunk, without decoding
            whole = data.rstrip(b"\0")[-8:-4] == b"IEND"
        else:
            # A complete JPEG ends in its end mark. Anything after it, or another format: decode.
            whole = name == "JPEG" and data[-2:] == b"\xff\xd9"
        if not whole:
            with _open(data, where) as again:
                again.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(where, error) from None
    return PictureInfo(hashlib.sha256(data).hexdigest(), width, height, name, orientation)


def _orientation(image: Image, name: str) -> int:
    # A PNG without EXIF in front of its pixels would be decoded whole only to look for one behind them.
    if name == "PNG" and "exif" not in image.info:
        return 1
    found = image.getexif().get(0x0112, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _open(data: bytes, where: str) -> Image:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise PictureError(
            "the picture is empty (0 bytes)", where=where, hint="download or copy it again"
        )
    try:
        with warnings.catch_warnings():
            # Our own limit below replaces Pillow's warning at half of it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise PictureError(
            f"this is not a picture in a known format (first bytes {data[:8]!r})",
            where=where,
            hint="check that the download is the picture and not an error page",
        ) from None
    except Image.DecompressionBombError:
        raise _too_large(where, None) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(where, error) from None
    if image.size[0] * image.size[1] > MAX_PIXELS:
        raise _too_large(where, image.size)
    return image


def _too_large(where: str, size: tuple[int, int] | None) -> PictureError:
    shown = f" ({size[0]} x {size[1]} pixels)" if size else ""
    return PictureError(
        f"the picture is larger than {MAX_PIXELS:,} pixels{shown} and is not opened",
        where=where,
        hint="store a smaller copy; models resize pictures to far fewer pixels anyway",
    )


def _damaged(where: str, error: Exception) -> PictureError:
    return PictureError(
        f"the picture is truncated or damaged ({error})",
        where=where,
        hint="download or copy it again",
    )


def _unreadable(path: str, error: OSError) -> PictureError:
    if isinstance(error, FileNotFoundError):
        return PictureError(
            "the picture does not exist",
            where=path,
            hint="check the data root ($EMU2EVAL_DATA) and that the archive was unpacked whole; "
            "`emu2eval data check TASK` names every picture that is missing",
        )
    return PictureError(f"the picture cannot be read ({error.strerror})", where=path)
