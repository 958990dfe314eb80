"""What is taken away from demonstrations to see what a model learns from them.

labels     replies dealt among the demonstrations: the set of labels and the format stay
images   images dealt among them
blank      white images of the same sizes
order      the demonstrations in another order

After Min et al., "Rethinking the Role of Demonstrations" (arXiv 2202.12837); there labels are drawn from
all labels of the task.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

from emu2eval.fewshot.draw import keyed
from emu2eval.media import images
from emu2eval.types import Image, Part, Turn, Video

ABLATIONS = ("none", "labels", "images", "blank", "order")

Item = TypeVar("Item")


def changes_nothing(ablation: str, shots: int, text_only: bool) -> bool:
    """Whether there is nothing to take away: one demonstration can only be dealt to itself."""
    if ablation == "none":
        return False
    least = 1 if ablation == "blank" else 2
    return shots < least or (text_only and ablation in ("images", "blank"))


def dealt(items: Sequence[Item], names: Sequence[str], *key: object) -> list[Item]:
    """The items in a random order; the last one of both counts first.

    Drawn by the key and the names of the items, so that the same demonstrations are always dealt alike.
    An item added in front changes the place of at most one other (Durstenfeld's shuffle, inside out).
    """
    out: list[Item] = []
    for number, item in enumerate(reversed(items)):
        known = names[len(names) - 1 - number :]
        place = keyed("ablation", *key, *known) % (number + 1)
        out.append(item)
        out[number], out[place] = out[place], out[number]
    return out[::-1]


def ablate(
    turns: Sequence[Turn], names: Sequence[str], ablation: str, *key: object
) -> tuple[Turn, ...]:
    """The turns with dealt replies, dealt images or blank ones. names: of their demonstrations.

    An image takes the place of another and a video that of a video; replies keep their images.
    """
    if ablation == "labels":
        replies = dealt([turn.reply for turn in turns], names, ablation, *key)
        return tuple(replace(t, reply=r) for t, r in zip(turns, replies, strict=True))
    if ablation == "blank":
        return tuple(replace(t, ask=tuple(_blank(part) for part in t.ask)) for t in turns)
    if ablation == "images":
        changed = list(turns)
        for kind in (Image, Video):
            shown = [
                (part, name)
                for turn, name in zip(changed, names, strict=True)
                for part in turn.ask
                if isinstance(part, kind)
            ]
            order = dealt([p for p, _ in shown], [n for _, n in shown], ablation, *key)
            given = iter(order)
            changed = [replace(t, ask=tuple(_swapped(t.ask, kind, given))) for t in changed]
        return tuple(changed)
    return tuple(turns)


def _swapped(parts: Sequence[Part], kind: type, given: Iterator[Part]) -> Iterator[Part]:
    for part in parts:
        yield next(given) if isinstance(part, kind) else part


def _blank(part: Part) -> Part:
    if isinstance(part, Video):
        return Video(tuple(_white_as(frame) for frame in part.frames))
    return _white_as(part) if isinstance(part, Image) else part


def _white_as(image: Image) -> Image:
    return _white(*images.info(image).upright)


@cache
def _white(width: int, height: int) -> Image:
    from PIL import Image as PILImage

    stream = io.BytesIO()
    PILImage.new("RGB", (width, height), (255, 255, 255)).save(stream, "PNG")
    return Image(data=stream.getvalue())
