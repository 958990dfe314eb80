"""The Hateful Memes Challenge (Kiela et al., 2020): is an image with a text on it hateful?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from emu2eval.data.damaged import spared
from emu2eval.data.paths import inside
from emu2eval.data.textfile import opened
from emu2eval.errors import DataError
from emu2eval.types import Image, Sample


class _Row(msgspec.Struct):
    id: int | str
    img: str
    text: str
    label: int | None = None


def read(root: Path, file: str, images: str = "") -> Iterator[Sample]:
    """The official JSON lines of Hateful Memes; answers are yes (label 1, hateful) and no.

    images: the folder that the paths in the file, such as img/01234.png, start from.
    file: the JSON lines.
    """
    path = inside(root, file, where="file")
    shown_from = inside(root, images, where="images") if images else path.parent
    decode = msgspec.json.Decoder(_Row).decode
    with opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(
                    f"the line does not describe a meme: {error}", where=where
                ) from None
            yield spared(str(row.id), partial(_sample, row, shown_from, where))


def _sample(row: _Row, shown_from: Path, where: str) -> Sample:
    if row.label not in (None, 0, 1):
        raise DataError(f"the label is {row.label}, not 0 or 1", where=where)
    answer = None if row.label is None else ("no", "yes")[row.label]
    return Sample(
        id=str(row.id),
        fields={"text": row.text},
        images=(Image(str(inside(shown_from, row.img, where=where))),),
        answer=answer,
        references=(answer,) if answer is not None else (),
        cluster=row.img,
    )
