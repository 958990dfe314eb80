"""GQA from the hub's parquet, where questions and images are configurations of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.data import gqa
from emu2eval.data.parquet import Joined, JoinOptions, rows
from emu2eval.errors import DataError
from emu2eval.types import Image, Sample

_ASKED = ("id", "imageId", "question", "isBalanced")
_ANSWERED = ("answer", "types", "semantic", "entailed")


def read(
    root: Path,
    files: str,
    images: str,
    references: bool = True,
    hidden: bool = False,
) -> Iterator[Sample]:
    """GQA from the hub: the same samples as `gqa.read` makes of the official files.

    files, images: patterns of the questions and of the images, joined by the image's id.
    hidden: the split's columns hold no answers.
    references: as of `gqa.read`.
    """
    join = JoinOptions(files=images, on="imageId", id="id")
    joined = Joined.read(root, join, ["image"])
    columns = _ASKED if hidden else (*_ASKED, *_ANSWERED)
    for row in rows(root, files, columns):
        image = joined.of(row)["image"]
        if not isinstance(image, Image):
            raise DataError("the row's image is empty", where=row.where)
        yield gqa.sample(row.cells["id"], _question(row.cells, row.where), image, references)


def _question(row: Mapping[str, Any], where: str) -> gqa.GQAQuestion:
    given = {key: value for key, value in row.items() if value is not None}
    if isinstance(given.get("entailed"), str):  # a list written as text
        given["entailed"] = re.findall(r"\w+", given["entailed"])
    try:
        return msgspec.convert(given, gqa.GQAQuestion)
    except msgspec.ValidationError as error:
        raise DataError(f"the row is not a GQA question: {error}", where=where) from None
