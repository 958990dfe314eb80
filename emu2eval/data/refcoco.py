"""RefCOCO, RefCOCO+ and RefCOCOg (Yu et al., 2016; Mao et al., 2016) in the files of lichengunc/refer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from emu2eval.data.jsonfile import parse
from emu2eval.data.paths import inside
from emu2eval.data.plainpickle import load
from emu2eval.errors import DataError
from emu2eval.media.boxes import COORDINATES, Box, upright, write
from emu2eval.media.images import stored
from emu2eval.types import Image, Sample


class _Sentence(msgspec.Struct, gc=False):
    sent: str
    sent_id: int


class _Ref(msgspec.Struct, gc=False):
    ref_id: int
    ann_id: int
    image_id: int
    split: str
    sentences: list[_Sentence]


class _Image(msgspec.Struct, gc=False):
    id: int
    width: int
    height: int


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    bbox: tuple[float, float, float, float]


class _Instances(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]


def read(
    root: Path,
    refs: str,
    instances: str,
    part: str,
    images: str,
    image_name: str = "COCO_train2014_{image_id:012d}.jpg",
) -> Iterator[Sample]:
    """RefCOCO, RefCOCO+ and RefCOCOg, one sample an expression of the split `part`; ids are the sentence ids.

    refs: `refs(unc).p` and the like, each a split of its own making; instances: boxes and sizes of the
    images. Fields: expression (cleaned by the authors, as everybody uses it), width, height, and the
    box as demonstrations write it: box_tokens, box_unit, box_percent, box_thousand, box_pixels.
    The answer is box_unit; the reference is the box in pixels, [left, top, right, bottom]. Both are those of
    the image as it is shown: the files' boxes are turned with an image that is stored on its side.
    part: such as val, testA or testB; images: the folder of the images; image_name: their names, such as
    `COCO_train2014_{image_id:012d}.jpg`.
    """
    folder = inside(root, images, where="images")
    refs_path = inside(root, refs, where="refs")
    listed = _refs(refs_path)
    chosen = [ref for ref in listed if ref.split == part]
    if not chosen:
        raise DataError(
            f"no expressions in split {part!r}; available: "
            f"{', '.join(sorted({r.split for r in listed}))}",
            where=refs_path,
            hint="the official files have different splits: val, testA, testB (unc); val, test (umd)",
        )
    instances_path = inside(root, instances, where="instances")
    known = parse(instances_path, _Instances)
    if not folder.is_dir():
        raise FileNotFoundError(2, "no such folder", str(folder))
    sizes = {image.id: (image.width, image.height) for image in known.images}
    boxes = {a.id: (a.image_id, a.bbox) for a in known.annotations}
    turns: dict[int, int] = {}
    for ref in chosen:
        image_id, bbox = boxes.get(ref.ann_id, (None, None))
        size = sizes.get(ref.image_id)
        if bbox is None or size is None or image_id != ref.image_id:
            raise DataError(
                f"reference {ref.ref_id} refers to box {ref.ann_id} in image {ref.image_id}, which "
                "this file does not contain",
                where=instances_path,
                hint="both files must come from the same archive: refcoco, refcoco+ or refcocog",
            )
        image = Image(f"{folder}/{image_name.format(image_id=ref.image_id)}")
        turn = turns.get(ref.image_id)
        if turn is None:
            turn = turns[ref.image_id] = _turn(image, size)
        yield from _samples(ref, _corners(bbox), size, image, turn)


def _turn(image: Image, listed: tuple[int, int]) -> int:
    """EXIF's orientation by which boxes of an image are to be turned; 1 where they are upright already.

    listed: the size in whose pixels the file has its boxes.
    """
    found = stored(image)
    if found is None:
        return 1
    (width, height), orientation = found
    upright_already = orientation > 4 and width != height and listed == (height, width)
    return 1 if upright_already else orientation


def _samples(
    ref: _Ref, box: Box, size: tuple[int, int], image: Image, turn: int
) -> Iterator[Sample]:
    box = upright(box, size, turn)
    size = size if turn < 5 else (size[1], size[0])
    shown = {f"box_{kind}": write(box, size, kind) for kind in COORDINATES}
    for sentence in ref.sentences:
        yield Sample(
            id=str(sentence.sent_id),
            fields={
                "expression": sentence.sent,
                "width": str(size[0]),
                "height": str(size[1]),
                **shown,
            },
            images=(image,),
            answer=shown["box_unit"],
            references=(str(list(box)),),
            cluster=str(ref.image_id),
        )


def _corners(bbox: tuple[float, float, float, float]) -> Box:
    """COCO's [left, top, width, height] as corners."""
    left, top, width, height = bbox
    return left, top, left + width, top + height


def _refs(path: Path) -> list[_Ref]:
    try:
        return msgspec.convert(load(path), list[_Ref])
    except msgspec.ValidationError as error:
        raise DataError(f"unexpected content in the file: {error}", where=path) from None
