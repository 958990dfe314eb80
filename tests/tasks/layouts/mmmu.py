"""MMMU's files on the hub: a folder of parquet files a subject, seven columns of images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from emu2eval.data.mmmu import DISCIPLINE_OF

from ..drawing import COLOURS, colour, draw

TEXTS = "id question options explanation img_type answer topic_difficulty question_type subfield".split()
IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
SCHEMA = pyarrow.schema(
    [(name, pyarrow.string()) for name in TEXTS]
    + [(f"image_{number}", IMAGE) for number in range(1, 8)]
)


def write(root: Path) -> None:
    for place, subject in enumerate(sorted(DISCIPLINE_OF)):
        for part, first in (("dev", 100), ("validation", 200), ("test", 300)):
            name = f"{part}_{subject}_1"
            row = question(name, first + place, hidden=part == "test")
            write_table(root / f"hub/MMMU/MMMU/{subject}/{part}-00000-of-00001.parquet", [row])


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows, schema=SCHEMA)
    pyarrow.parquet.write_table(table, path, row_group_size=2)


def image(number: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    draw(number).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{number}.png"}


def question(name: str, number: int, *, hidden: bool) -> dict[str, Any]:
    """Of three questions one has its options in words, one in images, and one is open."""
    kind = number % 3
    row: dict[str, Any] = {"image_1": image(number)}
    text, options, answer = "What color is the square in <image 1>?", [*COLOURS], ""
    answer = "ABCDE"[options.index(colour(number))]
    if kind == 1:
        text = "<image 1> Which has the same color?"
        options = ["<image 2>", "<image 3>"]
        row |= {"image_2": image(number + 1000), "image_3": image(number + 1001)}
        answer = "A"
    elif kind == 2:
        text, options, answer = "How many squares are in <image 1>?", [], "['1', 'one']"
    return row | {
        "id": name,
        "question": text,
        "options": str(options),
        "explanation": "",
        "img_type": "['Drawings']",
        "answer": "?" if hidden else answer,
        "topic_difficulty": "Easy",
        "question_type": "open" if kind == 2 else "multiple-choice",
        "subfield": "Squares",
    }
