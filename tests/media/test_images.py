"""Images: what is a whole one, what each damaged one is told, and what colours come out."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image as PILImage

from emu2eval.errors import ImageError
from emu2eval.media import images, pixels
from emu2eval.types import Image


def encoded(image: PILImage.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


SMALL = PILImage.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 20).convert("RGB")


def test_identity_is_the_hash_of_the_bytes(tmp_path: Path) -> None:
    data = encoded(SMALL, "PNG")
    (tmp_path / "a.png").write_bytes(data)
    found = images.info(Image(str(tmp_path / "a.png")))
    assert found == images.info(Image(data=data))
    assert found.digest == hashlib.sha256(data).hexdigest()
    assert (found.width, found.height, found.format) == (40, 30, "PNG")


def test_a_changed_file_gets_a_new_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(SMALL, "PNG"))
    before = images.digest(Image(str(path)))
    path.write_bytes(encoded(SMALL.rotate(90), "PNG"))
    assert images.digest(Image(str(path))) != before


def test_a_file_that_changes_after_its_request_was_made_is_not_shown_under_its_old_name(
    tmp_path: Path,
) -> None:
    """Its answer, and what is kept of it, would stand under the digest of another image."""
    path = tmp_path / "a.png"
    path.write_bytes(encoded(SMALL, "PNG"))
    planned = Image(str(path))
    images.digest(planned)
    assert images.load(planned).size == SMALL.size
    path.write_bytes(encoded(SMALL.rotate(180), "PNG"))
    for use in (images.read, images.load):
        with pytest.raises(ImageError, match="changed since its request was made"):
            use(planned)
    assert images.load(Image(str(path))).size == SMALL.size


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, with next to no data behind it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"<html>404 not found</html>", "not an image in a known format"),
        (encoded(SMALL, "PNG")[:-40], "truncated"),
        (encoded(SMALL, "PNG")[:-5], "truncated"),
        (encoded(SMALL, "JPEG")[:-40], "truncated"),
        (encoded(SMALL, "GIF")[:-60], "truncated"),
        (png_header(50_000, 50_000), "larger than"),
        (png_header(14_000, 14_000), "larger than"),
    ],
    ids=["empty", "html", "png", "png-end", "jpeg", "gif", "huge", "large"],
)
def test_what_is_wrong_with_an_image_is_said(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=says) as caught:
        images.info(Image(str(path)))
    assert caught.value.where == str(path)


def test_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        images.digest(Image(str(tmp_path / "none.png")))
    with pytest.raises(ImageError, match="cannot be read"):
        images.digest(Image(str(tmp_path)))


def test_bytes_after_the_end_of_a_jpeg_are_no_fault() -> None:
    data = encoded(SMALL, "JPEG") + b"trailing camera data"
    assert images.load(Image(data=data)).size == (40, 30)


def test_every_mode_becomes_rgb() -> None:
    grey = SMALL.convert("L")
    assert images.load(Image(data=encoded(grey, "PNG"))).getpixel((5, 5)) == (
        (grey.getpixel((5, 5)),) * 3
    )
    for mode in ("1", "P", "CMYK"):
        data = encoded(SMALL.convert(mode), "TIFF")
        assert images.load(Image(data=data)).mode == "RGB"


def test_transparency_lies_over_white() -> None:
    clear = PILImage.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert images.load(Image(data=encoded(clear, "PNG"))).getpixel((1, 1)) == (255, 255, 255)
    palette = PILImage.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0] + [0] * 765)
    data = encoded(palette, "PNG", transparency=0)
    assert images.load(Image(data=data)).getpixel((1, 1)) == (255, 255, 255)


def test_sixteen_bit_greys_keep_their_brightness() -> None:
    deep = PILImage.new("I;16", (4, 4), 0x8000)
    assert images.load(Image(data=encoded(deep, "PNG"))).getpixel((0, 0)) == (128, 128, 128)


def test_rotation_is_applied() -> None:
    exif = PILImage.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    turned = images.load(Image(data=encoded(SMALL, "JPEG", exif=exif)))
    assert turned.size == (30, 40)


def test_one_that_is_made_is_the_same_bytes_again() -> None:
    one, two = images.from_pil(SMALL), images.from_pil(SMALL.copy())
    assert images.digest(one) == images.digest(two)
    assert images.load(one).tobytes() == SMALL.tobytes()


def test_an_image_is_a_path_or_bytes() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Image()
    with pytest.raises(ValueError, match="exactly one"):
        Image("a", b"b")


def test_a_turned_image_has_the_size_it_is_loaded_with(tmp_path: Path) -> None:
    for orientation in (1, 3, 6, 8):
        exif = PILImage.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        PILImage.new("RGB", (40, 20), "red").save(path, exif=exif)
        image = Image(path=str(path))
        assert images.info(image).upright == images.load(image).size
        assert images.info(image).upright == ((40, 20) if orientation < 5 else (20, 40))


def test_what_decoding_would_take_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    PILImage.new("RGBA", (300, 300)).save(path)
    images.load(Image(str(path)))
    monkeypatch.setattr(images, "MOST_MEMORY", 300 * 300 * 12 - 1)
    with pytest.raises(ImageError, match="300 x 300 pixels of PNG in RGBA would take"):
        images.info(Image(data=path.read_bytes()))


def test_a_file_that_a_program_would_have_to_run_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    PILImage.new("RGB", (8, 8)).save(path, "EPS")
    with pytest.raises(ImageError, match="not an image in a known format"):
        images.info(Image(str(path)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="not a file"):
            images.info(Image(str(path)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa", "PA"])
def test_transparency_is_laid_over_white_in_strips_as_in_one(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = PILImage.effect_noise((31, 17), 90)
    image = PILImage.merge("RGBA", (noise, noise.rotate(90), noise, noise.rotate(180)))
    image = (
        image.convert("LA").convert(mode) if "L" in mode or mode == "PA" else image.convert(mode)
    )
    whole = pixels.rgb(image).tobytes()
    monkeypatch.setattr(pixels, "_STRIP", 40)
    assert pixels.rgb(image).tobytes() == whole
