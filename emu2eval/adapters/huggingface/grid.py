"""Several images as the numbered tiles of one, for models that take too few of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image as PILImage
from PIL import ImageDraw, ImageOps

from emu2eval.media.images import load
from emu2eval.types import Image, Part, Prompt, Turn, Video

TILE = 224
"""Pixels a tile is wide and high; what an image leaves free of it is white."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Images that are shown as one, row by row."""

    images: tuple[Image, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, known without opening an image."""
        columns = math.ceil(math.sqrt(len(self.images)))
        return columns * TILE, math.ceil(len(self.images) / columns) * TILE


def paint(tiles: Tiles) -> PILImage.Image:
    """The grid, each tile with its number in the corner."""
    sheet = PILImage.new("RGB", tiles.size, "white")
    draw = ImageDraw.Draw(sheet)
    columns = sheet.width // TILE
    for number, image in enumerate(tiles.images):
        x, y = number % columns * TILE, number // columns * TILE
        sheet.paste(ImageOps.pad(load(image), (TILE, TILE), color="white"), (x, y))
        draw.rectangle((x, y, x + 22, y + 14), fill="white")
        draw.text((x + 2, y + 1), str(number + 1), fill="black")
    return sheet


def gather(prompt: Prompt, everything: bool) -> tuple[Prompt, Tiles | None]:
    """The prompt with "(image 1)" in place of each image of a demonstration, and the images' tiles.

    everything: those of the query too, for models that take one image only.
    """
    found: list[Image] = []

    def named(parts: Sequence[Part]) -> tuple[Part, ...]:
        shown: list[Part] = []
        for part in parts:
            images = part.frames if isinstance(part, Video) else (part,)
            for image in images:
                if isinstance(image, Image):
                    found.append(image)
                    shown.append(f"(image {len(found)}) ")
                else:
                    shown.append(image)
        return tuple(shown)

    turns = tuple(Turn(named(turn.ask), named(turn.reply)) for turn in prompt.turns)
    if not found:
        return prompt, None
    query = named(prompt.query) if everything else prompt.query
    return replace(prompt, turns=turns, query=query), Tiles(tuple(found))
