"""COCO's captions and images for models that draw: words in, or an image in (Lin et al., 2014)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

from emu2eval.data.jsonfile import parse
from emu2eval.data.paths import folder, inside
from emu2eval.errors import DataError
from emu2eval.spec.settings import Count
from emu2eval.types import Image, Sample


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    caption: str


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]


def read(
    root: Path,
    captions: str,
    images: str,
    sample: Count | None = None,
    seed: int = 0,
    once: bool = False,
) -> Iterator[Sample]:
    """Images from captions of COCO, one sample a caption: the image is its answer, image and caption are its
    references.

    captions: captions_*.json; images: folder of its images. sample: only so many captions, drawn by
    `random.Random(seed).sample` from the file's order, as Kosmos-G draws them; all, where there are no more.
    once: of an image's captions the first alone. id: the caption's; cluster: the image's.
    seed: of that draw.
    """
    for annotation, image in _drawn(root, captions, images, sample, seed, once):
        words = annotation.caption.strip()
        yield Sample(
            id=str(annotation.id),
            fields={"caption": words},
            answer=image,
            references=(image, words),
            cluster=str(annotation.image_id),
        )


def read_images(
    root: Path, captions: str, images: str, sample: Count | None = None, seed: int = 0
) -> Iterator[Sample]:
    """The images of the same draw as `coco-captions`, each once: it is shown, and it is the answer. id: the
    image's.

    captions, images, sample, seed: as of `read`.
    """
    seen: set[int] = set()
    for annotation, image in _drawn(root, captions, images, sample, seed, False):
        if annotation.image_id not in seen:
            seen.add(annotation.image_id)
            yield Sample(
                id=str(annotation.image_id),
                images=(image,),
                answer=image,
                references=(image,),
            )


def _drawn(
    root: Path, captions: str, images: str, sample: Count | None, seed: int, once: bool
) -> Iterator[tuple[_Annotation, Image]]:
    path = inside(root, captions, where="captions")
    found = folder(root, images, where="images")
    file = parse(path, _File)
    names = {image.id: image.file_name for image in file.images}
    annotations = file.annotations
    if once:
        annotations = list({a.image_id: a for a in reversed(annotations)}.values())
    if sample is not None and sample < len(annotations):
        annotations = random.Random(seed).sample(annotations, sample)
    for annotation in annotations:
        name = names.get(annotation.image_id)
        if name is None:
            raise DataError(
                f"caption {annotation.id} refers to image {annotation.image_id}, which is not listed",
                where=path,
            )
        if not annotation.caption.strip():
            raise DataError(f"caption {annotation.id} is empty", where=path)
        yield annotation, Image(str(inside(found, name, where=str(path))))
