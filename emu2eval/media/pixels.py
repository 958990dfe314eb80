"""The one way from what Pillow decodes to what a viewer shows: RGB in 8 bits, upright, over white."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

ORIENTATION = 0x0112
"""The EXIF tag; XMP's tiff:Orientation counts where there is none, as Pillow reads it."""

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 256, 257, 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2
_DEEP_TEXT = frozenset({b"eXIf", b"iTXt", b"tEXt", b"zTXt"})
_IN_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_SMALL_GREYS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies greys of few bits with, but not the grey that a PNG names as transparent."""


def shown(image: PILImage) -> PILImage:
    """An opened image as a viewer shows it, its first frame where it has several.

    Raises what Pillow raises for an image that is cut off or damaged.
    """
    tiles: Any = getattr(image, "tile", None)
    packed = str(tiles[0][3]) if tiles else ""
    image.load()
    colours = rgb(image, packed)
    # Asked for after loading: Pillow turns a TIFF by itself, and finds what stands behind a PNG's pixels.
    return turned(colours, orientation(image))


def orientation(image: PILImage) -> int:
    """EXIF's, 1 to 8; 1 = upright as stored, also where it cannot be read. Decodes nothing."""
    from PIL import Image as PILImage

    try:
        # Not the PNG's own method, which decodes the whole image to look behind its pixels.
        found = PILImage.Image.getexif(image).get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error, Warning):
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def stored_size(image: PILImage) -> tuple[int, int]:
    """Width and height before the image is set upright. Of an opened image, before it is decoded."""
    tags: Any = getattr(image, "tag_v2", {})
    # Pillow gives the size of a TIFF as it will be when it stands upright.
    return tags.get(_WIDTH, image.size[0]), tags.get(_HEIGHT, image.size[1])


def turned(image: PILImage, found: int) -> PILImage:
    """The image as stored, set upright by an orientation of EXIF."""
    from PIL.Image import Transpose

    ways = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(ways[found]) if found in ways else image


def says_more_behind(data: bytes) -> bool:
    """Whether a PNG has metadata behind its pixels, where only decoding finds an orientation."""
    at, pixels = 8, False
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        pixels |= kind == b"IDAT"
        if pixels and kind in _DEEP_TEXT:
            return True
        at += length + 12
    return False


def plain(image: PILImage, data: bytes) -> bool:
    """Whether any decoder makes the same of the file as `shown`, with nothing but its pixels to look at.

    image: opened, before it is decoded; data: its encoded bytes. So not: several frames, an orientation,
    transparency, a palette, more or less than 8 bits, another colour space than grey and RGB.
    """
    if image.mode not in ("L", "RGB") or image.has_transparency_data or orientation(image) != 1:
        return False
    deep = image.format == "PNG" and data[24:25] != b"\x08"
    return not deep and getattr(image, "n_frames", 1) == 1


def cost(image: PILImage) -> int:
    """Bytes that the way of an opened image to what is shown takes at most, decoding included."""
    decoder = _DECODER.get(str(image.format), 0)
    if image.format == "JPEG" and not image.info.get("progressive"):
        decoder = 0
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    way = 48 if deep else 4 if image.mode != "RGB" else 0
    # A copy that is set upright: whether it is needed is known once it is decoded.
    upright = 4
    width, height = image.size
    return width * height * (_STORED.get(image.mode, 4) + decoder + way + upright)


_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow's memory; 4 in all other modes, RGB too."""

_DECODER = {"WEBP": 12, "AVIF": 16, "JPEG2000": 20, "JPEG": 8, "MPO": 8, "TIFF": 8, "GIF": 8}
"""Bytes a pixel that decoders hold beside the image: whole frames, coefficients of a JPEG, strips."""

_STRIP = 1 << 20
"""Pixels whose transparency is laid over white at a time."""


def rgb(image: PILImage, packed: str = "") -> PILImage:
    """A decoded image of any of Pillow's modes in RGB, transparency over white.

    packed: Pillow's name of how its file holds the pixels, if it is from one.
    """
    clear = image.info.get("transparency")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image, clear if isinstance(clear, int) else None).convert("RGB")
    if image.mode == "LAB":
        return _lab(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if isinstance(clear, int) and packed in _SMALL_GREYS:
        image.info["transparency"] = clear * _SMALL_GREYS[packed]
    elif isinstance(clear, tuple) and packed.startswith("RGB;16"):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    return _over_white(image)


def storable(image: PILImage) -> PILImage:
    """The image itself where a PNG holds its mode without loss, else in RGB as a viewer shows it."""
    return image if image.mode in _IN_PNG else rgb(image)


def _over_white(image: PILImage) -> PILImage:
    from PIL import Image as PILImage

    # Some rows at a time: four layers of the whole would be many times the image.
    shown = PILImage.new("RGB", image.size)
    rows = max(1, _STRIP // max(image.width, 1))
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        part.info = image.info  # which of a palette's colours are transparent
        layer = (part.convert("LA") if part.mode == "La" else part).convert("RGBA")
        white = PILImage.new("RGBA", layer.size, (255, 255, 255, 255))
        shown.paste(PILImage.alpha_composite(white, layer).convert("RGB"), (0, top))
    return shown


def _lab(image: PILImage) -> PILImage:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert shown is not None  # not changed in place
    return shown


# -- greys of more than 8 bits ---------------------------------------------------------------------


def _grey(image: PILImage, clear: int | None) -> PILImage:
    """Greys of 16 or 32 bits in 8, scaled and never clipped. clear: the value that is transparent."""
    import numpy as np
    from PIL import Image as PILImage

    tags: Any = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    bits, signed = int(tags.get(_BITS, (0,))[0]), tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    if image.mode == "F":
        scaled = _scaled(values, (1, 255, 65535))
    elif bits > 16 or (not bits and image.mode == "I" and image.format not in ("PNG", "PPM")):
        if bits and not signed:
            values = values.view(np.uint32)  # Pillow keeps them in its signed integers
        # Nobody fills 32 bits with brightness: what they hold has the depth that it came with.
        largest = 2**32 - 1 if bits and not signed else 2**31 - 1
        scaled = _upper(values, (255, 65535, largest))
    else:
        scaled = _upper(values, (2 ** (bits - signed) - 1 if bits else 65535,))
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        scaled = 255 - scaled
    if clear is not None:
        scaled = np.where(values == clear, np.uint8(255), scaled)
    return PILImage.fromarray(scaled)


def _upper(values: np.ndarray[Any, Any], whites: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The upper 8 bits, counted from the first of these values of white, 2^n - 1, that nothing exceeds."""
    import numpy as np

    low, high = int(values.min()), int(values.max())
    for white in whites:
        if low >= 0 and high <= white:
            return (values >> white.bit_length() - 8).astype(np.uint8)
    return _stretched(values.astype(np.float64))


def _scaled(values: np.ndarray[Any, Any], whites: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The same for floats; what is no number is black."""
    import numpy as np

    numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    numbers = np.clip(numbers, low, high)
    for white in whites:
        if low >= 0 and high <= white:
            return _rounded(numbers * 255 / white)
    return _stretched(numbers)


def _stretched(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """From the least to the greatest: values that no convention of brightness fits."""
    low, high = numbers.min(), numbers.max()
    return _rounded((numbers - low) * 255 / ((high - low) or 1))


def _rounded(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    whole: np.ndarray[Any, Any] = np.rint(numbers).astype(np.uint8)
    return whole
