"""CoBSAT (Zeng et al., 2024, arXiv 2402.01293; github.com/UW-Madison-Lee-Lab/CoBSAT): ten tasks."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from emu2eval.data.jsonfile import parse
from emu2eval.data.paths import inside
from emu2eval.errors import DataError, UnknownName
from emu2eval.types import Image, Sample

# The official prompt list refers to the items by their place here.
SPACES = {
    "color": "yellow white red purple pink orange green brown blue black",
    "background": "beach desert glacier volcano park gym waterfall space cave seafloor",
    "style": "watercolor sketch pixel origami lego icon graffiti futuristic 3d old",
    "action": "swim sleep sing run read fly eat drink cry angry",
    "texture": "wood wicker sequined plastic paper metal leather lace denim ceramic",
    "object": "leaf hat cup chair car box book ball bag apple",
    "animal": "zebra tiger sheep pig monkey lion dog cow cat bird",
}
THINGS = {
    "color": "object",
    "background": "animal",
    "style": "object",
    "action": "animal",
    "texture": "object",
}
"""The things that have the attributes of a space."""
TASKS = tuple(f"{attribute}-{number}" for attribute in THINGS for number in (1, 2))
"""1: the thing is latent and the attribute is said; 2: the other way round."""
_WORDS = {"3d": "wireframe", "park": "amusement park"}
"""How a shown word is worded; a latent one, where it is said, stays as it is (a787be5, load_dataset.py)."""


_Place = Annotated[int, msgspec.Meta(ge=0, lt=10)]


class _Prompt(msgspec.Struct):
    """Places of items in their spaces, no item twice."""

    x_list: list[_Place]
    theta_list: list[_Place]


@dataclass(frozen=True, slots=True)
class _Task:
    """said, latent: the items that the prompt list refers to."""

    name: str
    attribute: str
    thing: str
    latent_is: str

    @classmethod
    def named(cls, name: str) -> _Task:
        if name not in TASKS:
            raise UnknownName("task", name, TASKS, where="tasks", of="CoBSAT")
        attribute, _, number = name.partition("-")
        latent_is = "object" if number == "1" else "attribute"
        return cls(name, attribute, THINGS[attribute], latent_is)

    @property
    def spaces(self) -> tuple[list[str], list[str]]:
        """The items that are said and those that are latent."""
        attributes, things = SPACES[self.attribute].split(), SPACES[self.thing].split()
        return (attributes, things) if self.latent_is == "object" else (things, attributes)

    def pair(self, said: str, latent: str) -> tuple[str, str]:
        """(thing, attribute)."""
        return (latent, said) if self.latent_is == "object" else (said, latent)


def read(
    root: Path,
    folder: str,
    prompts: str,
    part: Literal["prompts", "images"] = "prompts",
    tasks: Sequence[str] = TASKS,
    shots: int = 0,
) -> Iterator[Sample]:
    """The published prompts of CoBSAT, each with the query behind `shots` others in its list; or, as
    the part images, the 500 that are shown, with their captions.

    folder: `datasets` as unpacked; prompts: prompts_list_default.json. Fields: x, what is said; latent, what
    is not; other, a wrong latent; given and common, the spaces of both; shown, the demonstrations, for the
    chooser `listed`; objects and attributes, the items to choose from, options, the attributes as they are
    worded. References: the object, the attribute. Groups: task; inference, object or attribute.
    part: prompts, or images for those that are shown; tasks: their names, such as color-1.
    """
    base = inside(root, folder, where="folder")
    if part == "images":
        yield from _images(base)
        return
    path = inside(root, prompts, where="prompts")
    listed = parse(path, list[_Prompt])
    for name in tasks:
        task = _Task.named(name)
        for number, prompt in enumerate(listed):
            yield _query(task, number, prompt, shots, f"{path}, entry {number}")


def _images(base: Path) -> Iterator[Sample]:
    for attribute, thing in THINGS.items():
        spaces = _spaces(_Task.named(f"{attribute}-1"))
        path = base / f"{attribute}_{thing}.csv"
        captions = _captions(path)
        for of in SPACES[thing].split():
            for item in SPACES[attribute].split():
                name = f"{item}_{of}.jpg"
                if name not in captions:
                    raise DataError(f"the file has no caption for {name}", where=path)
                yield Sample(
                    id=_image_id(attribute, item, of),
                    fields={
                        **spaces,
                        "x": _worded(item),
                        "latent": of,
                        "other": of,
                        "caption": captions[name],
                        "role": "demonstration",
                    },
                    answer=Image(str(base / f"{attribute}_{of}" / name)),
                )


def _query(task: _Task, number: int, prompt: _Prompt, shots: int, where: str) -> Sample:
    if shots + 1 >= min(len(prompt.x_list), len(prompt.theta_list)):
        raise DataError(
            f"the list has no query after {shots} demonstrations",
            where=where,
            hint="use at most 8 shots",
        )
    if len(set(prompt.x_list)) < len(prompt.x_list):
        raise DataError(
            "an item appears twice in the list, so a query could be shown as its own demonstration",
            where=where,
        )
    saids, latents = task.spaces
    said = [saids[i] for i in prompt.x_list[: shots + 1]]
    others = [latents[i] for i in prompt.theta_list[: shots + 2]]
    latent = others[-1]
    thing, attribute = task.pair(said[-1], latent)
    fields = [
        {"x": _worded(x), "latent": latent, "other": other}
        for x, other in zip(said, others, strict=False)
    ]
    shown = []
    for x, texts in zip(said[:-1], fields, strict=False):
        of, item = task.pair(x, latent)
        shown.append([_image_id(task.attribute, item, of), texts])
    return Sample(
        # More shots have another query, so its words are part of its name.
        id=f"{task.name}/{number:04d} {attribute} {thing}",
        fields={
            **fields[-1],
            "role": "query",
            **_spaces(task),
            "shown": json.dumps(shown),
        },
        references=(thing, attribute),
        cluster=f"{task.name} {attribute} {thing}",
        groups={"task": task.name, "inference": task.latent_is},
    )


def _spaces(task: _Task) -> dict[str, str]:
    """What there is to choose from, as both the templates and the scorer use it."""
    by_thing = task.latent_is == "object"
    attributes = SPACES[task.attribute]
    return {
        "given": task.attribute if by_thing else task.thing,
        "common": task.thing if by_thing else task.attribute,
        "attribute": task.attribute,
        "latent_is": task.latent_is,
        "objects": SPACES[task.thing],
        "attributes": attributes,
        "options": "|".join(map(_worded, attributes.split())),
    }


def _captions(path: Path) -> dict[str, str]:
    """Name of an image -> its caption."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        missing = {"image", "caption"} - set(rows.fieldnames or ())
        if missing:
            raise DataError(
                f"the file has no column {' and '.join(sorted(missing))}",
                where=path,
                hint="unpack datasets.zip again",
            )
        return {row["image"]: row["caption"] for row in rows}


def _image_id(attribute: str, item: str, thing: str) -> str:
    return f"{attribute}_{thing}/{item}_{thing}"


def _worded(item: str) -> str:
    return _WORDS.get(item, item)
