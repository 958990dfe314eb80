"""POPE (Li et al., 2023): whether an object is in an image, yes or no; three files on COCO val2014."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from emu2eval.data.damaged import spared
from emu2eval.data.paths import inside
from emu2eval.errors import DataError
from emu2eval.types import Image, Sample


class _Row(msgspec.Struct, gc=False):
    question_id: int
    image: str
    text: str
    label: str


def read(root: Path, files: Mapping[str, str], images: str) -> Iterator[Sample]:
    """The questions of POPE. files: category (random, popular, adversarial) -> JSON lines.

    Every file counts its questions from 1 on, so the category is part of the id. Cluster: the image,
    which the three files share.
    images: the folder of the images.
    """
    folder = inside(root, images, where="images")
    decode = msgspec.json.Decoder(_Row).decode
    for category, name in files.items():
        path = inside(root, name, where="files")
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    row = decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise DataError(
                        f"unexpected content in the line: {error}",
                        where=where,
                        hint="POPE's files have one JSON object per line; download the file again",
                    ) from None
                name = f"{category}-{row.question_id}"
                yield spared(name, partial(_sample, name, category, row, folder, where))


def _sample(name: str, category: str, row: _Row, folder: Path, where: str) -> Sample:
    if row.label not in ("yes", "no"):
        raise DataError(f"the label is {row.label!r}, not yes or no", where=where)
    return Sample(
        id=name,
        fields={"question": row.text},
        images=(Image(str(inside(folder, row.image, where=where))),),
        answer=row.label,
        references=(row.label,),
        cluster=row.image,
        groups={"category": category},
    )
