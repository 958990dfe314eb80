"""A reader: lines such as `wren-1 wren 2 2 10 10`, a bird and the box that it sits in."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image as PILImage

from emu2eval import Image, Sample, Settings, images


class BirdFile(Settings):
    """file: relative to the folder of the data."""

    file: str


def read(root: Path, settings: BirdFile) -> Iterator[Sample]:
    for line in (root / settings.file).read_text(encoding="utf-8").splitlines():
        name, bird, *box = line.split()
        yield Sample(
            id=name,
            fields={"bird": bird},
            images=(drawn([int(number) for number in box]),),
            answer=" ".join(box),
            references=(" ".join(box),),
            groups={"bird": bird},
        )


def drawn(box: list[int], colour: str = "brown") -> Image:
    pixels = PILImage.new("RGB", (32, 32), "white")
    pixels.paste(colour, (box[0], box[1], box[2], box[3]))
    return images.from_pil(pixels)
