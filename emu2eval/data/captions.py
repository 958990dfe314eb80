"""Captions: Karpathy's files for COCO and Flickr30k (Karpathy and Fei-Fei, 2015), and COCO's own format,
in which nocaps comes (Agrawal et al., 2019)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from emu2eval.data.jsonfile import parse
from emu2eval.data.paths import inside
from emu2eval.errors import ConfigError, DataError
from emu2eval.types import Image, Sample


class _Sentence(msgspec.Struct, gc=False):
    raw: str


class _Listed(msgspec.Struct, gc=False):
    filename: str
    split: str
    sentences: list[_Sentence]
    filepath: str = ""
    cocoid: int | None = None


class _Karpathy(msgspec.Struct):
    images: list[_Listed]


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    domain: str | None = None


class _Caption(msgspec.Struct, gc=False):
    image_id: int
    caption: str


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Caption] | None = None


def read(
    root: Path,
    images: str,
    karpathy: str | None = None,
    parts: Sequence[str] = (),
    coco: str | None = None,
    references: bool = True,
) -> Iterator[Sample]:
    """Captions of COCO, NoCaps and Flickr30k, one sample an image: all its captions are references, the
    first is shown as a demonstration.

    images: folder of the images; karpathy: a file of his with the splits wanted of it (parts), or
    coco: a file in COCO's format, without annotations if they are hidden.
    references: False keeps only the caption shown, to save memory in a pool.
    ids: COCO's image ids, else the file's stem (Flickr30k). Groups: the domain, where there is one.
    parts: splits of Karpathy's file; coco: the file in COCO's format.
    """
    if (karpathy is None) == (coco is None):
        raise ConfigError("give exactly one of `karpathy` and `coco` as the source of captions")
    folder = inside(root, images, where="images")
    path = inside(root, karpathy or coco or "", where="karpathy" if karpathy else "coco")
    found = _karpathy(path, parts) if karpathy else _coco(path)
    if not folder.is_dir():
        raise FileNotFoundError(2, "no such folder", str(folder))
    for sample_id, name, captions, domain in found:
        if captions is not None and not captions:
            yield Sample(sample_id, unreadable=f"the image has no caption ({path})")
            continue
        yield Sample(
            id=sample_id,
            images=(Image(str(inside(folder, name, where=str(path)))),),
            answer=captions[0].strip() if captions else None,
            references=tuple(captions) if captions and references else (),
            cluster=sample_id,
            groups={"domain": domain} if domain else {},
        )


_Found = Iterator[tuple[str, str, list[str] | None, str | None]]
"""(id, path below the images' folder, captions or None where they are hidden, domain)."""


def _karpathy(path: Path, parts: Sequence[str]) -> _Found:
    images = parse(path, _Karpathy).images
    splits = {image.split for image in images}
    if not parts or not splits.issuperset(parts):
        raise DataError(
            f"the file has the splits {', '.join(sorted(splits))}, not {', '.join(parts) or '(none)'}",
            where=path,
            hint="COCO has train, restval, val and test; Flickr30k has train, val and test",
        )
    for image in images:
        if image.split in parts:
            stem = image.filename.rpartition(".")[0]
            name = f"{image.filepath}/{image.filename}" if image.filepath else image.filename
            sample_id = str(image.cocoid) if image.cocoid is not None else stem
            yield sample_id, name, [sentence.raw for sentence in image.sentences], None


def _coco(path: Path) -> _Found:
    file = parse(path, _Coco)
    captions: defaultdict[int, list[str]] = defaultdict(list)
    for annotation in file.annotations or ():
        captions[annotation.image_id].append(annotation.caption)
    strays = captions.keys() - {image.id for image in file.images}
    if strays:
        raise DataError(
            f"there are captions for image {min(strays)}, which is not listed", where=path
        )
    for image in file.images:
        listed = captions[image.id] if file.annotations is not None else None
        yield str(image.id), image.file_name, listed, image.domain
