"""One decoder path: every mode, depth, transparency and orientation comes out as a viewer shows it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from emu2eval.adapters.openai.urls import ImageUrls
from emu2eval.errors import ImageError
from emu2eval.media import images
from emu2eval.types import Image

SMALL = PILImage.effect_mandelbrot((12, 8), (-2, -1, 1, 1), 20).convert("RGB")
COLOURS = PILImage.merge("RGB", [SMALL.getchannel(0), PILImage.linear_gradient("L").resize((12, 8)),
                                 PILImage.new("L", (12, 8), 90)])  # fmt: skip
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


def encoded(image: PILImage.Image, form: str, **options: Any) -> Image:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Image(data=buffer.getvalue())


def chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(
    size: tuple[int, int],
    depth: int,
    kind: int,
    row: bytes,
    *,
    before: bytes = b"",
    after: bytes = b"",
) -> Image:
    """A PNG of equal rows. depth: bits; kind: PNG's colour type; before, after: chunks around the pixels."""
    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0)
    rows = zlib.compress((b"\0" + row) * size[1])
    whole = [chunk(b"IHDR", header), before, chunk(b"IDAT", rows), after, chunk(b"IEND", b"")]
    return Image(data=b"\x89PNG\r\n\x1a\n" + b"".join(whole))


def exif(orientation: int) -> bytes:
    found = PILImage.Exif()
    found[0x0112] = orientation
    return found.tobytes()


def row_of(image: Image) -> list[tuple[int, ...]]:
    shown = images.load(image)
    assert shown.mode == "RGB"
    return [shown.getpixel((x, 0)) for x in range(shown.width)]  # type: ignore[misc]


def greys_of(image: Image) -> list[int]:
    row = row_of(image)
    assert all(len(set(colour)) == 1 for colour in row)
    return [colour[0] for colour in row]


def grey(mode: str, values: Sequence[float], kind: str) -> PILImage.Image:
    return PILImage.frombytes(mode, (len(values), 1), np.array([values], kind).tobytes())


RAMP = [0, 0x1234, 0x8000, 0xFFFF]


@pytest.mark.parametrize(
    ("image", "form", "shown"),
    [
        (grey("I;16", RAMP, "<u2"), "PNG", [0, 0x12, 0x80, 255]),
        (grey("I;16", RAMP, "<u2"), "TIFF", [0, 0x12, 0x80, 255]),
        (grey("I;16B", RAMP, ">u2"), "TIFF", [0, 0x12, 0x80, 255]),
        (grey("I", RAMP, "<i4"), "PPM", [0, 0x12, 0x80, 255]),
        (grey("I", RAMP, "<i4"), "TIFF", [0, 0x12, 0x80, 255]),
        (grey("I", [0, 7, 128, 255], "<i4"), "TIFF", [0, 7, 128, 255]),
        (grey("I", [0, 2**23, 2**30, 2**31 - 1], "<i4"), "TIFF", [0, 1, 128, 255]),
        (grey("I", [-100, 0, 100], "<i4"), "TIFF", [0, 128, 255]),
        (grey("F", [0, 0.25, 0.5, 1], "<f4"), "TIFF", [0, 64, 128, 255]),
        (grey("F", [0, 7, 128, 255], "<f4"), "TIFF", [0, 7, 128, 255]),
        (grey("F", [0, 32768, 65535], "<f4"), "TIFF", [0, 128, 255]),
        (grey("F", [-1e6, 0, 1e6], "<f4"), "TIFF", [0, 128, 255]),
        (grey("F", [np.nan, np.inf, 0.5, 0], "<f4"), "TIFF", [0, 128, 128, 0]),
        (grey("F", [np.nan, np.nan], "<f4"), "TIFF", [0, 0]),
        (grey("F", [3.5, 3.5], "<f4"), "TIFF", [4, 4]),
    ],
)  # fmt: skip
def test_deep_greys_are_scaled_and_never_clipped(
    image: PILImage.Image, form: str, shown: list[int]
) -> None:
    assert greys_of(encoded(image, form)) == shown


def test_a_dark_image_of_sixteen_bits_stays_dark() -> None:
    assert greys_of(encoded(grey("I;16", [0, 200, 255], "<u2"), "PNG")) == [0, 0, 0]
    assert greys_of(encoded(grey("I", [0, 200, 255], "<i4"), "PPM")) == [0, 0, 0]


def test_unsigned_values_of_32_bits_and_a_scale_that_begins_with_white() -> None:
    signed = encoded(grey("I", [0, 2**30, -1], "<i4"), "TIFF").data or b""
    # The tag SampleFormat, a SHORT: from 2 (signed) to 1 (unsigned); -1 is the largest then.
    entry = struct.pack("<HHI", 339, 3, 1)
    assert greys_of(Image(data=signed.replace(entry + b"\2", entry + b"\1"))) == [0, 64, 255]
    ramp = encoded(grey("I;16", RAMP, "<u2"), "TIFF").data or b""
    entry = struct.pack("<HHI", 262, 3, 1)
    negative = Image(data=ramp.replace(entry + b"\1", entry + b"\0"))
    assert greys_of(negative) == [255, 255 - 0x12, 127, 0]


CLEAR, SOLID = (255, 255, 255), (200, 30, 40)


def test_transparency_lies_over_white_whatever_says_it() -> None:
    layer = PILImage.new("RGBA", (2, 1), (*SOLID, 255))
    layer.putpixel((0, 0), (*SOLID, 0))
    palette = PILImage.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, *SOLID])
    palette.putpixel((0, 0), 0)
    clear = [CLEAR, SOLID]
    assert row_of(encoded(layer, "PNG")) == clear
    assert row_of(encoded(layer, "WEBP", lossless=True)) == clear
    assert row_of(encoded(layer, "TIFF")) == clear
    assert row_of(encoded(palette, "PNG", transparency=0)) == clear
    assert row_of(encoded(palette, "PNG", transparency=b"\0\xff")) == clear
    assert row_of(encoded(palette, "GIF", transparency=0)) == clear
    assert row_of(encoded(layer.convert("PA"), "TIFF"))[0] == CLEAR
    deep = [CLEAR, (30, 30, 30)]
    half = PILImage.new("LA", (2, 1), (30, 255))
    half.putpixel((0, 0), (30, 0))
    assert row_of(encoded(half, "PNG")) == deep
    assert row_of(encoded(half, "TIFF")) == deep


@pytest.mark.parametrize(
    ("depth", "kind", "row", "clear", "shown"),
    [
        (1, 0, b"\x40", struct.pack(">H", 1), [(0, 0, 0), CLEAR]),
        (4, 0, b"\x5f", struct.pack(">H", 5), [CLEAR, (255, 255, 255)]),
        (4, 0, b"\x51", struct.pack(">H", 5), [CLEAR, (17, 17, 17)]),
        (2, 0, b"\x10", struct.pack(">H", 1), [(0, 0, 0), CLEAR]),
        (8, 0, b"\x05\x06", struct.pack(">H", 5), [CLEAR, (6, 6, 6)]),
        (16, 0, b"\x05\x05\x05\x06", struct.pack(">H", 0x0505), [CLEAR, (5, 5, 5)]),
        (8, 2, bytes([9, 8, 7, 9, 8, 6]), struct.pack(">3H", 9, 8, 7), [CLEAR, (9, 8, 6)]),
        (16, 2, bytes([9, 0, 8, 0, 7, 0, 9, 0, 8, 0, 6, 0]), struct.pack(">3H", 0x900, 0x800, 0x700),
         [CLEAR, (9, 8, 6)]),
    ],
)  # fmt: skip
def test_one_colour_of_a_png_is_transparent(
    depth: int, kind: int, row: bytes, clear: bytes, shown: list[tuple[int, ...]]
) -> None:
    assert row_of(png((2, 1), depth, kind, row, before=chunk(b"tRNS", clear))) == shown


@pytest.mark.parametrize("mode", ["1", "L", "La", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK",
                                  "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16L", "I;16B"])  # fmt: skip
def test_every_mode_of_pillow_becomes_an_image_near_its_colours(mode: str) -> None:
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        made = ImageCms.profileToProfile(COLOURS, srgb, lab, outputMode="LAB")
        assert made is not None
        near = images.load(encoded(made, "TIFF"))
        assert np.abs(np.asarray(near, int) - np.asarray(COLOURS)).mean() <= 3
    elif mode.startswith("I;16"):
        made = COLOURS.convert("L").convert("I").point(lambda value: value * 256).convert("I;16")
        made = PILImage.frombytes(
            mode, made.size, np.asarray(made, ">u2" if mode[-1] == "B" else "<u2").tobytes()
        )
    else:
        steps = {
            "La": ("LA", "La"),
            "PA": ("P", "PA"),
            "RGBa": ("RGBA", "RGBa"),
            "F": ("L", "F"),
            "I": ("L", "I"),
        }
        made = COLOURS
        for step in steps.get(mode, (mode,)):
            made = made.convert(step)
    assert made.mode == mode
    shown = np.asarray(images.load(images.from_pil(made)), int)
    grey = mode in ("L", "LA", "La", "I", "F") or mode.startswith("I;16")
    right = np.asarray(COLOURS.convert("L").convert("RGB") if grey else COLOURS, int)
    if mode == "1":
        assert set(shown.flatten()) == {0, 255}
    else:
        assert np.abs(shown - right).max() <= {"P": 60, "PA": 60, "LAB": 25}.get(mode, 6)


# -- orientation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_and_the_corner_are_those_of_a_viewer(orientation: int) -> None:
    marked = PILImage.new("RGB", (6, 4), "black")
    marked.putpixel((0, 0), (255, 255, 255))
    corner = [(0, 0), (5, 0), (5, 3), (0, 3), (0, 0), (3, 0), (3, 5), (0, 5)][orientation - 1]
    tag = chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0"))
    late = png((6, 4), 8, 2, bytes(18), after=tag)
    tiff = encoded(marked, "TIFF", tiffinfo={0x0112: orientation})
    packed = encoded(marked, "TIFF", tiffinfo={0x0112: orientation}, compression="tiff_lzw")
    for image in (
        encoded(marked, "PNG", exif=exif(orientation)),
        encoded(marked, "WEBP", exif=exif(orientation), lossless=True),
        tiff,
        packed,
    ):
        assert images.load(image).getpixel(corner) == (255, 255, 255)
    for image in (encoded(marked, "JPEG", exif=exif(orientation)), tiff, packed, late):
        info = images.info(image)
        assert info.orientation == orientation
        assert (info.width, info.height) == (6, 4)
        assert info.upright == images.load(image).size == ((6, 4) if orientation < 5 else (4, 6))


@pytest.mark.parametrize("after", [False, True])
def test_an_orientation_that_only_xmp_knows(after: bool) -> None:
    tag = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.encode())
    image = png((6, 4), 8, 2, bytes(18), **{"after" if after else "before": tag})
    assert images.info(image).upright == images.load(image).size == (4, 6)


@pytest.mark.parametrize(
    "damage", [b"\x00", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\x01"]
)
def test_metadata_that_cannot_be_read_are_passed_over(damage: bytes) -> None:
    image = encoded(COLOURS, "JPEG", exif=damage)
    assert images.info(image).upright == images.load(image).size == (12, 8)


def test_whatever_a_decoder_raises_is_said_of_the_image() -> None:
    data = encoded(COLOURS, "TIFF").data or b""
    for cut in range(9, len(data), 37):
        image = Image(data=data[:cut])
        try:
            images.load(image)
        except ImageError as error:
            assert error.where == images.BYTES


# -- bytes that any decoder reads alike -------------------------------------------------------------


def anybody(image: Image) -> PILImage.Image:
    """What a decoder makes of the bytes that looks at nothing but the pixels."""
    return PILImage.open(io.BytesIO(image.data or b"")).convert("RGB")


def several(form: str) -> Image:
    return encoded(COLOURS, form, save_all=True, append_images=[COLOURS.rotate(180)], lossless=True)


ODD = {
    "turned": encoded(COLOURS, "JPEG", exif=exif(6)),
    "turned late": png((6, 4), 8, 2, bytes(18), after=chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0"))),
    "cmyk": encoded(COLOURS.convert("CMYK"), "JPEG"),
    "alpha": encoded(COLOURS.convert("RGBA"), "PNG"),
    "webp alpha": encoded(PILImage.new("RGBA", (4, 4), (1, 2, 3, 0)), "WEBP"),
    "grey alpha": encoded(COLOURS.convert("LA"), "PNG"),
    "palette": encoded(COLOURS.convert("P"), "PNG"),
    "one bit": encoded(COLOURS.convert("1"), "PNG"),
    "deep grey": encoded(grey("I;16", RAMP, "<u2"), "PNG"),
    "deep colours": png((1, 1), 16, 2, b"\1\2\3\4\5\6"),
    "one clear colour": png((2, 1), 8, 2, bytes(6), before=chunk(b"tRNS", bytes(6))),
    "gif": encoded(COLOURS, "GIF"),
    "animated png": several("PNG"),
    "animated webp": several("WEBP"),
    "tiff": encoded(COLOURS, "TIFF"),
}  # fmt: skip
PLAIN = {
    "jpeg": encoded(COLOURS, "JPEG"),
    "grey jpeg": encoded(COLOURS.convert("L"), "JPEG"),
    "png": encoded(COLOURS, "PNG"),
    "grey png": encoded(COLOURS.convert("L"), "PNG"),
    "noted png": png((6, 4), 8, 2, bytes(18), after=chunk(b"tEXt", b"Title\0a")),
    "webp": encoded(COLOURS, "WEBP"),
    "upright": encoded(COLOURS, "JPEG", exif=exif(1)),
}


def sent(image: Image, **settings: Any) -> tuple[str, bytes]:
    from base64 import b64decode

    head, _, data = str(ImageUrls(**settings).url(image)).partition(";base64,")
    return head.removeprefix("data:image/"), b64decode(data)


@pytest.mark.parametrize("name", ODD)
def test_a_server_is_sent_the_pixels_that_a_local_model_is_shown(name: str) -> None:
    kind, data = sent(ODD[name])
    assert (kind, data == ODD[name].data) == ("png", False)
    shown = PILImage.open(io.BytesIO(data))
    assert (shown.mode, getattr(shown, "n_frames", 1)) == ("RGB", 1)
    assert shown.tobytes() == images.load(ODD[name]).tobytes()


@pytest.mark.parametrize("name", PLAIN)
def test_bytes_that_everybody_reads_alike_go_as_they_are(name: str) -> None:
    assert sent(PLAIN[name])[1] == PLAIN[name].data
    assert anybody(PLAIN[name]).tobytes() == images.load(PLAIN[name]).tobytes()


def test_a_server_is_sent_only_the_formats_that_it_reads(tmp_path: Path) -> None:
    webp = PLAIN["webp"]
    kind, data = sent(webp, formats=("JPEG", "PNG"))
    assert kind == "png"
    assert PILImage.open(io.BytesIO(data)).tobytes() == images.load(webp).tobytes()
    for name, image in {"a.webp": webp, "b.jpg": PLAIN["jpeg"], "c.jpg": ODD["turned"]}.items():
        (tmp_path / name).write_bytes(image.data or b"")
    urls = ImageUrls(root=str(tmp_path), base="http://host", formats=("JPEG",))
    served = [
        str(urls.url(Image(str(tmp_path / name))))[:5] for name in ("a.webp", "b.jpg", "c.jpg")
    ]
    assert served == ["data:", "http:", "data:"]
