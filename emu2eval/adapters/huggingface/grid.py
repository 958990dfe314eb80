"""Several pictures as the numbered tiles of one, for models that take too few of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageOps

from emu2eval.pictures import load
from emu2eval.types import Part, Picture, Prompt, Turn, Video

TILE = 224
"""Pixels a tile is wide and high; what a picture leaves free of it is white."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Pictures that are shown as one, row by row."""

    pictures: tuple[Picture, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, known without opening a picture."""
        columns = math.ceil(math.sqrt(len(self.pictures)))
        return columns * TILE, math.ceil(len(self.pictures) / columns) * TILE


def paint(tiles: Tiles) -> Image.Image:
    """The grid, each tile with its number in the corner."""
    sheet = Image.new("RGB", tiles.size, "white")
    draw = ImageDraw.Draw(sheet)
    columns = sheet.width // TILE
    for number, picture in enumerate(tiles.pictures):
        x, y = number % columns * TILE, number // columns * TILE
        sheet.paste(ImageOps.pad(load(picture), (TILE, TILE), color="white"), (x, y))
        draw.rectangle((x, y, x + 22, y + 14), fill="white")
        draw.text((x + 2, y + 1), str(number + 1), fill="black")
    return sheet


def gather(prompt: Prompt, everything: bool) -> tuple[Prompt, Tiles | None]:
    """The prompt with "(picture 1)" in place of each picture of a demonstration, and the pictures' tiles.

    everything: those of the query too, for models that take one picture only.
    """
    found: list[Picture] = []

    def named(parts: Sequence[Part]) -> tuple[Part, ...]:
        shown: list[Part] = []
        for part in parts:
            pictures = part.frames if isinstance(part, Video) else (part,)
            for picture in pictures:
                if isinstance(picture, Picture):
                    found.append(picture)
                    shown.append(f"(picture {len(found)}) ")
                else:
                    shown.append(picture)
        return tuple(shown)

    turns = tuple(Turn(named(turn.ask), named(turn.reply)) for turn in prompt.turns)
    if not found:
        return prompt, None
    query = named(prompt.query) if everything else prompt.query
    return replace(prompt, turns=turns, query=query), Tiles(tuple(found))
