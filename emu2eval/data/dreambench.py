"""DreamBench (Ruiz et al., 2023; google/dreambooth): some photographs of a subject, and 25 scenes for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emu2eval.data.paths import folder, inside
from emu2eval.data.textfile import read_text
from emu2eval.errors import DataError
from emu2eval.types import Image, Sample

KINDS = ("object", "live")
"""The two lists of prompts: of things, and of animals."""

_ENDINGS = (".jpg", ".jpeg", ".png")
_PROMPT = re.compile(
    r"""(?P<quote>['"])(?P<text>[^'"\\]*)(?P=quote)\.format\(unique_token, ?class_token\),?"""
)
_SCENE = re.compile(r"a (?:(?P<quality>[^{}]+) )?\{0\} \{1\}(?P<rest>[^{}]*)")


@dataclass(frozen=True, slots=True)
class Scene:
    """One prompt of the file: "a red {0} {1} on the beach" has the quality "red" and rest " on the beach".

    {0} stands for the token of a fine-tuned model, {1} for the subject's class.
    """

    quality: str
    rest: str

    def plain(self, subject: str) -> str:
        """In words alone, without a token: what the image is scored by.

        >>> Scene("red", "").plain("backpack")
        'a red backpack'
        """
        return (
            f"a {self.quality} {subject}{self.rest}" if self.quality else f"a {subject}{self.rest}"
        )

    @property
    def emu2(self) -> str:
        """What follows the subject's image in Emu2's wording: the article and the class are gone, and a
        property is asked for after the image (arXiv 2312.13286, "a red {}" as "{} Make it red").

        >>> Scene("", " in the jungle").emu2, Scene("cube shaped", "").emu2
        (' in the jungle', ' Make it cube shaped')
        """
        return self.rest + (f" Make it {self.quality}" if self.quality else "")

    @property
    def kosmos_g(self) -> str:
        """The same in Kosmos-G's wording: a property is put behind.

        >>> Scene("red", "").kosmos_g
        ', red'
        """
        return self.rest + (f", {self.quality}" if self.quality else "")


@dataclass(frozen=True, slots=True)
class Official:
    """What prompts_and_classes.txt says. classes: subject -> class; scenes: the prompts of each kind."""

    classes: Mapping[str, str]
    scenes: Mapping[str, tuple[Scene, ...]]


def read(
    root: Path,
    files: str,
    inputs: Mapping[str, str],
    live: Sequence[str],
    prompts: str = "prompts_and_classes.txt",
    real: bool = False,
) -> Iterator[Sample]:
    """DreamBench, one sample a subject and prompt: the input image is shown, the plain prompt and all its
    images are references, the input first.

    files: the folder of prompts and subjects; inputs: subject -> the stem of the image that is shown;
    live: classes whose subjects have the live prompts.
    real: instead one sample a photograph, which is shown, with the subject's others as references: what
    real images reach.
    ids: subject and number of the prompt or stem of the photograph. Cluster: the subject.
    prompts: the file of the prompts.
    """
    base = folder(root, files, where="files")
    path = inside(base, prompts, where="prompts")
    official = parse(path)
    for subject, its_class in sorted(official.classes.items()):
        shown = _images(base, subject, path)
        kind = "live" if its_class in live else "object"
        groups = {"subject": subject, "kind": kind}
        if real:
            yield from _real(subject, its_class, shown, groups)
            continue
        own = inputs.get(subject)
        if own not in shown:
            wanted = f"{own}.jpg" if own else "not named"
            raise DataError(
                f"the image of {subject} that is shown to the model is {wanted}; "
                f"there are {', '.join(shown)}",
                where=base / subject,
                hint="name one per subject in the task's data, under options.inputs",
            )
        first = shown[own]
        others = [image for stem, image in shown.items() if stem != own]
        for number, scene in enumerate(official.scenes[kind]):
            plain = scene.plain(its_class)
            yield Sample(
                id=f"{subject}-{number:02d}",
                fields=_fields(its_class, scene, plain),
                images=(first,),
                references=(plain, first, *others),
                cluster=subject,
                groups={**groups, "prompt": _prompt_kind(kind, number)},
            )


def _real(
    subject: str, its_class: str, shown: Mapping[str, Image], groups: Mapping[str, str]
) -> Iterator[Sample]:
    if len(shown) < 2:
        raise DataError(
            f"{subject} has only one image, but real images are compared with each other"
        )
    for stem, image in shown.items():
        yield Sample(
            id=f"{subject}-{stem}",
            fields=_fields(its_class, Scene("", ""), ""),
            images=(image,),
            references=tuple(p for other, p in shown.items() if other != stem),
            cluster=subject,
            groups=groups,
        )


def _fields(its_class: str, scene: Scene, plain: str) -> dict[str, str]:
    return {
        "class": its_class,
        "prompt": plain,
        "emu2": scene.emu2,
        "kosmos_g": scene.kosmos_g,
    }


def _prompt_kind(kind: str, number: int) -> str:
    """By the place in the list, counted from 0: the file does not say it."""
    if number >= 20:
        return "property"
    return "accessorisation" if kind == "live" and number >= 10 else "recontextualisation"


def _images(base: Path, subject: str, path: Path) -> dict[str, Image]:
    """Stem -> image, in the order of the names."""
    place = folder(base, subject, where=str(path))
    found = {
        file.stem: Image(str(file))
        for file in sorted(place.iterdir())
        if file.suffix.lower() in _ENDINGS
    }
    if not found:
        raise DataError(f"there are no images of {subject}", where=place)
    return found


def parse(path: Path) -> Official:
    """Reads prompts_and_classes.txt, whose lists look like Python; nothing of it is run.

    Raises DataError with the line that cannot be read.
    """
    classes: dict[str, str] = {}
    scenes: dict[str, tuple[Scene, ...]] = {}
    lines = read_text(path).splitlines()
    numbered = iter(enumerate((line.strip() for line in lines), 1))
    title = ""
    for _, line in numbered:
        if re.fullmatch(r"subject_name, ?class", line):
            classes = dict(_classes(numbered, path))
        elif line.startswith("prompt_list"):
            kind = "live" if "live" in title.lower() else "object"
            if kind in scenes:
                raise DataError(f"the {kind} prompts appear twice", where=path)
            scenes[kind] = tuple(_scenes(numbered, path))
        title = line or title
    if not classes or set(scenes) != set(KINDS):
        raise DataError(
            "expected classes, object prompts and live subject prompts, but found "
            f"{len(classes)} classes and prompts of {', '.join(scenes) or 'no kind'}",
            where=path,
            hint="download the file again: github.com/google/dreambooth, dataset/prompts_and_classes.txt",
        )
    for kind, listed in scenes.items():
        if len(listed) != 25:
            raise DataError(
                f"there are {len(listed)} {kind} prompts, but the official file has 25", where=path
            )
    return Official(classes, scenes)


def _classes(numbered: Iterator[tuple[int, str]], path: Path) -> Iterator[tuple[str, str]]:
    """Lines such as `backpack_dog,backpack`, up to an empty one."""
    for number, line in numbered:
        if not line:
            return
        subject, comma, its_class = (part.strip() for part in line.partition(","))
        if not (subject and comma and its_class):
            raise DataError(f"{line!r} is not a subject with its class", where=f"{path}:{number}")
        yield subject, its_class


def _scenes(numbered: Iterator[tuple[int, str]], path: Path) -> Iterator[Scene]:
    """Lines such as `'a {0} {1} in the snow'.format(unique_token, class_token),`, up to a bracket."""
    for number, line in numbered:
        if line == "]":
            return
        if not line:
            continue
        found = _PROMPT.fullmatch(line)
        scene = _SCENE.fullmatch(found["text"]) if found else None
        if scene is None:
            raise DataError(
                f"{line!r} is not a prompt such as 'a {{0}} {{1}} in the snow'.format(unique_token, "
                "class_token)",
                where=f"{path}:{number}",
            )
        yield Scene(scene["quality"] or "", scene["rest"])
    raise DataError("the last list of prompts does not end", where=path)
