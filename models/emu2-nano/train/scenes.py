"""Images to train on: easy-VQA's train part, and drawn ones in its style with more shapes and colours."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from emu2eval.adapters.emu2.vision import MEAN, STD
from emu2eval.data.easy_vqa import ShapeImage, shape_images

SIZE = 64
FINE = 4  # drawn at four times the size and averaged, which gives the soft edges of easy-VQA
SHAPES = ("circle", "rectangle", "triangle", "diamond", "star", "cross", "ring", "arch")
COLOURS = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
    "orange": (255, 165, 0),
    "purple": (128, 0, 128),
    "pink": (255, 105, 180),
    "cyan": (0, 255, 255),
}
COLOUR_NAMES = tuple(COLOURS)
# Never shown and never said in training, so that their scores tell what the model puts together itself.
HELD_OUT = frozenset({("circle", "teal"), ("rectangle", "yellow"), ("triangle", "red")})
HELD_OUT_DRAWN = frozenset({("star", "blue"), ("ring", "green"), ("diamond", "orange")})


@dataclass(frozen=True)
class Scenes:
    """images: (N, 64, 64, 3) uint8; shape, colour: (N,) places in SHAPES and COLOUR_NAMES.

    box: (N, 4) centre x, centre y, width, height, all as parts of the image's side.
    """

    images: Tensor
    shape: Tensor
    colour: Tensor
    box: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def take(self, places: Tensor) -> Scenes:
        return Scenes(
            self.images[places], self.shape[places], self.colour[places], self.box[places]
        )


def drawn(count: int, seed: int) -> Scenes:
    """`count` drawn images, every allowed combination of shape and colour equally likely."""
    pairs = [
        (s, c)
        for s in SHAPES
        for c in COLOUR_NAMES
        if (s, c) not in HELD_OUT and (s, c) not in HELD_OUT_DRAWN
    ]
    # easy-VQA's own shapes are the ones that are tested: half of the images show them.
    common = [pair for pair in pairs if pair[0] in SHAPES[:3]]
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    labels = []
    for i in range(count):
        rng = random.Random(f"{seed} {i}")
        shape, colour = rng.choice(common if rng.random() < 0.5 else pairs)
        images[i] = draw(shape, colour, rng)
        labels.append((SHAPES.index(shape), COLOUR_NAMES.index(colour)))
    return _scenes(images, labels)


def published(validation: bool, every: int = 10) -> Scenes:
    """easy-VQA's train images without the held-out combinations; each tenth is for validation."""
    return _published(
        lambda s: (s.shape, s.colour) not in HELD_OUT and (s.number % every == 0) == validation
    )


def held_out_published() -> Scenes:
    """The train images of the held-out combinations: for a look while training, never to train on."""
    return _published(lambda s: (s.shape, s.colour) in HELD_OUT)


def _published(wanted: Callable[[ShapeImage], bool]) -> Scenes:
    known = [s for s in shape_images("train") if s.shape and s.colour and wanted(s)]
    arrays = []
    for scene in known:
        with Image.open(str(scene.image.path)) as image:
            arrays.append(np.asarray(image.convert("RGB")))
    labels = [(SHAPES.index(str(s.shape)), COLOUR_NAMES.index(str(s.colour))) for s in known]
    return _scenes(np.stack(arrays), labels)


def joined(left: Scenes, right: Scenes) -> Scenes:
    return Scenes(
        torch.cat([left.images, right.images]),
        torch.cat([left.shape, right.shape]),
        torch.cat([left.colour, right.colour]),
        torch.cat([left.box, right.box]),
    )


def normalised(images: Tensor) -> Tensor:
    """(N, 64, 64, 3) uint8 -> (N, 3, 64, 64), the pixels that the adapter makes of the same image."""
    values = images.permute(0, 3, 1, 2).float() / 255
    return (values - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def draw(shape: str, colour: str, rng: random.Random) -> np.ndarray:
    """One image (64, 64, 3) uint8: a shape of random size and place on a light background."""
    background = tuple(rng.randrange(230, 256) for _ in range(3))
    # The finer shapes are not told apart below 14 pixels.
    width = rng.uniform(8, 32) if shape in SHAPES[:3] else rng.uniform(14, 34)
    height = {"rectangle": rng.uniform(8, 32), "triangle": width * 0.87}.get(shape, width)
    x = rng.uniform(width / 2, SIZE - width / 2)
    y = rng.uniform(height / 2, SIZE - height / 2)
    image = Image.new("RGB", (SIZE * FINE, SIZE * FINE), background)
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = (
        round(FINE * v) for v in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    )
    box = (left, top, right - 1, bottom - 1)
    fill = COLOURS[colour]
    match shape:
        case "circle":
            pen.ellipse(box, fill=fill)
        case "rectangle":
            pen.rectangle(box, fill=fill)
        case "ring":
            pen.ellipse(box, fill=fill)
            edge = (right - left) // 4
            inner = (left + edge, top + edge, right - 1 - edge, bottom - 1 - edge)
            pen.ellipse(inner, fill=background)
        case "arch":
            # The upper half of a circle as wide as the box, in its middle.
            drop = (bottom - top) // 4
            pen.pieslice((left, top + drop, right - 1, bottom - 1 + drop), 180, 360, fill=fill)
        case _:
            corners = [
                (left + (right - left) * u, top + (bottom - top) * v) for u, v in _OUTLINES[shape]
            ]
            pen.polygon(corners, fill=fill)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _star() -> tuple[tuple[float, float], ...]:
    radii = (0.5, 0.2)
    turns = [i * pi / 5 for i in range(10)]
    return tuple(
        (0.5 + radii[i % 2] * sin(t), 0.5 - radii[i % 2] * cos(t)) for i, t in enumerate(turns)
    )


_OUTLINES = {
    "triangle": ((0.5, 0.0), (1.0, 1.0), (0.0, 1.0)),
    "diamond": ((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)),
    "star": _star(),
    "cross": (
        *((0.33, 0.0), (0.67, 0.0), (0.67, 0.33), (1.0, 0.33), (1.0, 0.67), (0.67, 0.67)),
        *((0.67, 1.0), (0.33, 1.0), (0.33, 0.67), (0.0, 0.67), (0.0, 0.33), (0.33, 0.33)),
    ),
}


def _scenes(images: np.ndarray, labels: list[tuple[int, int]]) -> Scenes:
    # Backgrounds have no channel below 230, and every colour has one below 130.
    shown = images.min(-1) < 200
    boxes = []
    for mask in shown:
        ys, xs = np.nonzero(mask)
        left, right, top, bottom = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
        boxes.append(((left + right) / 2, (top + bottom) / 2, right - left, bottom - top))
    shape, colour = torch.tensor(labels).T
    box = torch.tensor(np.array(boxes), dtype=torch.float32) / SIZE
    return Scenes(torch.from_numpy(images), shape.clone(), colour.clone(), box)
