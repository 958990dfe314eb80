"""MM-Vet (Yu et al., 2023): mm-vet.json and its folder of images, as distributed in mm-vet.zip."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from emu2eval.data.damaged import spared
from emu2eval.data.paths import inside
from emu2eval.errors import DataError
from emu2eval.types import Image, Sample

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
"""Recognition, text in images, knowledge, language generation, places in the image, arithmetic."""


class _Question(msgspec.Struct):
    imagename: str
    question: str
    answer: str
    capability: list[str]
    imagesource: str = ""


def read(root: Path, file: str, images: str) -> Iterator[Sample]:
    """The questions of MM-Vet. file: mm-vet.json; images: the folder `images` beside it.

    Groups: capability, one or more each; combination, all of them together, such as "rec+ocr". As a
    demonstration an answer is written out: "and" for <AND>, the first of several for <OR>.
    """
    path = inside(root, file, where="file")
    folder = inside(root, images, where="images")
    try:
        listed = msgspec.json.decode(path.read_bytes(), type=dict[str, _Question])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = "unpack mm-vet.zip again"
        raise DataError(f"unexpected content in the file: {error}", where=path, hint=hint) from None
    for name, row in listed.items():
        yield spared(name, partial(_sample, name, row, folder, f"{path}, {name}"))


def _sample(name: str, row: _Question, folder: Path, where: str) -> Sample:
    unknown = set(row.capability) - set(CAPABILITIES)
    if unknown or not row.capability:
        raise DataError(
            f"the capabilities {row.capability} are not all among {', '.join(CAPABILITIES)}",
            where=where,
        )
    own = tuple(name for name in CAPABILITIES if name in row.capability)
    return Sample(
        id=name,
        fields={"question": row.question},
        images=(Image(str(inside(folder, row.imagename, where=where))),),
        answer=written_out(row.answer),
        references=(row.answer,),
        cluster=row.imagename,
        groups={"capability": own, "combination": "+".join(own)},
    )


def written_out(answer: str) -> str:
    """The answer without marks.

    >>> written_out("-1<AND>-5"), written_out("a cup<OR>a mug")
    ('-1 and -5', 'a cup')
    """
    first = answer.partition("<OR>")[0]
    return " and ".join(part.strip() for part in first.split("<AND>"))
