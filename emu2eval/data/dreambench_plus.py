"""DreamBench++ (Peng et al., 2025, arXiv 2406.16855): 150 images, nine prompts for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emu2eval.data.paths import folder, inside
from emu2eval.data.textfile import read_text
from emu2eval.errors import DataError
from emu2eval.types import Image, Sample

LIVE = ("animal", "human")
CATEGORIES = (*LIVE, "object", "style")
KINDS = ("photorealistic",) * 4 + ("style transfer",) * 3 + ("imaginative",) * 2
"""What kind of prompt each of the nine is, by its place."""


def read(root: Path, files: str) -> Iterator[Sample]:
    """The subjects and prompts of DreamBench++, from its files.

    files: the folder that holds `images` and `captions`, whose files have the same names below it.

    Fields: prompt; subject; before and after, the prompt around its subject, where it names it once, else
    nothing and the whole; kind, subject or style. References: the prompt, the image. Groups: category,
    prompts.
    """
    base = inside(root, files, where="files")
    images, captions = (folder(base, name, where="files") for name in ("images", "captions"))
    for path in sorted(captions.rglob("*.txt")):
        inner = path.relative_to(captions)
        shown = images / inner.with_suffix(".jpg")
        if not shown.is_file():
            raise DataError(
                f"the image {shown.relative_to(base)} for these prompts is missing",
                where=path,
                hint="unpack the data set again",
            )
        yield from _samples(path, Image(str(shown)), inner.parent.name, inner.stem)


def _samples(path: Path, image: Image, category: str, index: str) -> Iterator[Sample]:
    if category not in CATEGORIES:
        raise DataError(
            f"the folder {category!r} is not one of {', '.join(CATEGORIES)}", where=path.parent
        )
    lines = [line.strip() for line in read_text(path).splitlines()]
    if len(lines) != 1 + len(KINDS) or not all(lines):
        raise DataError(
            f"the file should contain a subject and {len(KINDS)} prompts, one per line, but has "
            f"{len(lines)} lines, {sum(not line for line in lines)} of them empty",
            where=path,
        )
    subject, *prompts = lines
    name = f"live_subject_{category}" if category in LIVE else category
    collection = f"{name}_{index}_{subject.lower().replace(' ', '_')}"
    for number, (prompt, kind) in enumerate(zip(prompts, KINDS, strict=True)):
        around = prompt.split(subject)
        before, after = around if len(around) == 2 else ("", prompt)
        yield Sample(
            id=f"{collection}-{number}",
            fields={
                "prompt": prompt,
                "subject": subject,
                "before": before,
                "after": after,
                "kind": "style" if category == "style" else "subject",
            },
            images=(image,),
            references=(prompt, image),
            cluster=collection,
            groups={"category": category, "prompts": kind},
        )
