"""Drawing easy-VQA's shapes: from words, from names that demonstrations bind, or from the image itself."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from emu2eval.data.easy_vqa import COLOURS, SHAPES, Part, ShapeImage, shape_images
from emu2eval.data.names import names
from emu2eval.errors import ConfigError
from emu2eval.spec.settings import Count
from emu2eval.types import Sample


def read(
    root: Path, part: Literal["words", "train", "test"], each: Count = 4, apart: Sequence[str] = ()
) -> Iterator[Sample]:
    """Words and the images of easy-VQA that show them, to be drawn. part: "words", every colour and shape
    `each` times, which differ in the noise of their images; "train" or "test", the published images as
    replies to their words: demonstrations of drawing.

    Groups: combination, one of `apart` or "other".
    each: images of every pair of words; apart: combinations that are sub-scores of their own.
    """
    if part == "words":
        for concept in (f"{colour} {shape}" for shape in SHAPES for colour in COLOURS):
            for number in range(each):
                yield Sample(
                    id=f"{concept.replace(' ', '-')}-{number}",
                    fields={"concept": concept},
                    references=(concept,),
                    cluster=concept,
                    groups=_apart(concept, apart),
                )
        return
    for shown in _known(part):
        concept = f"{shown.colour} {shown.shape}"
        yield Sample(
            id=f"{part}-{shown.number:04d}",
            fields={"concept": concept},
            answer=shown.image,
            references=(concept,),
            groups=_apart(concept, apart),
        )


def read_names(
    root: Path,
    concepts: Count = 1,
    episodes: Count = 24,
    rounds: Count = 9,
    seed: int = 0,
    apart: Sequence[str] = (),
) -> Iterator[Sample]:
    """Episodes on test images in which `concepts` objects get new names; a name asks for its image.

    rounds: images of each object. Every sample is a query; the others of its episode, told by the
    common cluster, are its demonstrations. Groups: combination, as of `read`.
    concepts: objects in an episode; episodes: how many; seed: of the draw; apart: as of `read`.
    """
    by_concept: defaultdict[str, list[ShapeImage]] = defaultdict(list)
    for shown in _known("test"):
        by_concept[f"{shown.colour} {shown.shape}"].append(shown)
    if concepts > len(by_concept):
        raise ConfigError(f"the number of objects must be 1 to {len(by_concept)}, not {concepts}")
    kept = names(kept=True)
    order = sorted(by_concept)
    random.Random(f"drawing {concepts} {seed}").shuffle(order)
    for number in range(episodes):
        rng = random.Random(f"drawing {concepts} {seed} {number}")
        # In turn, so that every object is asked for equally often.
        chosen = [order[(number * concepts + i) % len(order)] for i in range(concepts)]
        called = rng.sample(kept, concepts)
        episode = f"draw-{concepts}-{number:03d}"
        for place, (concept, name) in enumerate(zip(chosen, called, strict=True)):
            for turn, shown in enumerate(rng.sample(by_concept[concept], rounds)):
                yield Sample(
                    id=f"{episode}-{place}{turn:02d}",
                    fields={"name": name, "concept": concept},
                    answer=shown.image,
                    references=(concept,),
                    cluster=episode,
                    groups=_apart(concept, apart),
                )


def read_images(root: Path, part: Part, apart: Sequence[str] = ()) -> Iterator[Sample]:
    """Images of easy-VQA that are to be painted again. Groups: combination, as of `read`.

    part, apart: as of `read`.
    """
    for shown in _known(part):
        concept = f"{shown.colour} {shown.shape}"
        yield Sample(
            id=f"{part}-{shown.number:04d}",
            images=(shown.image,),
            references=(concept,),
            groups=_apart(concept, apart),
        )


def _apart(concept: str, apart: Sequence[str]) -> dict[str, str]:
    return {"combination": concept if concept in apart else "other"} if apart else {}


def _known(part: Part) -> list[ShapeImage]:
    return [s for s in shape_images(part) if s.shape is not None and s.colour is not None]
