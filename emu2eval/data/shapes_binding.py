"""Episodes on easy-VQA's test images in which only the demonstrations say what is wanted.

An episode is a handful of samples, each with an image of its own. All of them are queries; the
demonstrations of one are the others (chooser `episode`), told by their common cluster.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from emu2eval.data.easy_vqa import ShapeImage, shape_images
from emu2eval.data.names import names
from emu2eval.errors import ConfigError
from emu2eval.spec.settings import Count
from emu2eval.types import Sample

RULES = ("{color}", "{shape}", "{color} {shape}", "{shape} {color}")


def read(
    root: Path,
    aspect: Literal["shape", "color", "object"],
    concepts: Annotated[int, Meta(ge=2)] = 3,
    episodes: Count = 60,
    rounds: Count = 7,
    seed: int = 0,
) -> Iterator[Sample]:
    """Names bound in context, on images of easy-VQA: in each episode `concepts` shapes, colours or both get
    new names of their own.

    aspect: "shape", "color" or "object" (shape and colour); rounds: images of each concept.
    concepts: names in an episode; episodes: how many; seed: of the draw.
    """
    by_concept: defaultdict[str, list[ShapeImage]] = defaultdict(list)
    for shown in _known():
        both = f"{shown.colour} {shown.shape}"
        concept = {"shape": shown.shape, "color": shown.colour}.get(aspect) or both
        by_concept[concept].append(shown)
    if concepts > len(by_concept):
        raise ConfigError(
            f"the number of {aspect} concepts must be 2 to {len(by_concept)}, not {concepts}"
        )
    kept = names(kept=True)
    for number in range(episodes):
        rng = random.Random(f"binding {aspect} {concepts} {seed} {number}")
        chosen = rng.sample(sorted(by_concept), concepts)
        called = rng.sample(kept, concepts)
        items = [
            (shown, name, concept)
            for concept, name in zip(chosen, called, strict=True)
            for shown in rng.sample(by_concept[concept], rounds)
        ]
        rng.shuffle(items)
        episode = f"{aspect}-{concepts}-{number:03d}"
        for place, (shown, name, concept) in enumerate(items):
            yield Sample(
                id=f"{episode}-{place:02d}",
                fields={"aspect": aspect, "concept": concept},
                images=(shown.image,),
                answer=name,
                references=(name,),
                cluster=episode,
            )


def read_operator(
    root: Path, episodes: Count = 60, items: Count = 18, seed: int = 0
) -> Iterator[Sample]:
    """A rule induced in context, on images of easy-VQA: in each episode one of four rules makes the answer
    from shape and colour.

    Groups: rule. Sibling of VL-ICL Bench's operator induction (arXiv 2403.13164).
    episodes: how many; items: samples of each; seed: of the draw.
    """
    pool = _known()
    for number in range(episodes):
        rng = random.Random(f"operator {seed} {number}")
        rule = RULES[number % len(RULES)]
        episode = f"operator-{number:03d}"
        for place, shown in enumerate(rng.sample(pool, items)):
            answer = rule.format(color=shown.colour, shape=shown.shape)
            yield Sample(
                id=f"{episode}-{place:02d}",
                images=(shown.image,),
                answer=answer,
                references=(answer,),
                cluster=episode,
                groups={"rule": rule.replace("{", "").replace("}", "")},
            )


def _known() -> list[ShapeImage]:
    return [s for s in shape_images("test") if s.shape is not None and s.colour is not None]
