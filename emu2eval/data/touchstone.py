"""TouchStone (Bai et al., 2023): one TSV file that holds the images too, as base64."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from emu2eval.data.damaged import spared
from emu2eval.data.paths import inside
from emu2eval.errors import DataError
from emu2eval.media.tsvfile import TableRow, rows
from emu2eval.types import Sample

COLUMNS = ("index", "question", "human_annotation", "gpt4_ha_answer", "category")


def read(root: Path, file: str) -> Iterator[Sample]:
    """The questions of TouchStone. file: touchstone_20230831.tsv. Fields: question; description, which only
    the judge is shown.

    Groups: category, split at commas as officially; task.
    """
    path = inside(root, file, where="file")
    for row in rows(path, ["image"]):
        missing = [name for name in COLUMNS if name not in row.cells]
        if missing:
            raise DataError(
                f"the file has no column {' and '.join(map(repr, missing))}",
                where=row.where,
                hint="the reader expects touchstone_20230831.tsv as published",
            )
        yield spared(row.cells["index"], partial(_sample, row))


def _sample(row: TableRow) -> Sample:
    cells = row.cells
    if "image" not in row.images:
        raise DataError("the row has no image", where=row.where, hint="download the file again")
    categories = tuple(part for part in cells["category"].split(",") if part)
    task = cells.get("task_name")
    return Sample(
        id=cells["index"],
        fields={"question": cells["question"], "description": cells["human_annotation"]},
        images=(row.images["image"],),
        answer=cells["gpt4_ha_answer"],
        references=(cells["gpt4_ha_answer"],),
        groups={"category": categories, **({"task": task} if task else {})},
    )
