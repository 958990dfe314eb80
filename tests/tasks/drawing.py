"""Images for the small data sets in the benchmarks' own layouts: drawn, no two alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "yellow", "black")


def colour(number: int) -> str:
    """The colour of the square that image `number` shows."""
    return COLOURS[number % len(COLOURS)]


def draw(number: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    """A coloured square on grey; its number is in one pixel, so that no image excludes another."""
    image = Image.new("RGB", size, (200, 200, 200))
    ImageDraw.Draw(image).rectangle((8, 6, 22, 18), fill=colour(number))
    image.putpixel((0, 0), (number % 256, number // 256 % 256, number // 65536 % 256))
    return image


def save(path: Path, number: int) -> None:
    """Draws image `number` at `path`, whose ending says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(number).save(path)


def film(path: Path, number: int, frames: int = 6) -> None:
    """Draws a video at `path` whose square darkens from frame to frame; its ending says the container."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for place in range(frames):
            shade = 1 - place / frames
            image = draw(number).point(lambda value, shade=shade: round(value * shade))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
