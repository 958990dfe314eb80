"""MMBench's files: a TSV with base64 images, the rotations of a question as rows a million apart."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from pathlib import Path
from typing import Any

from ..drawing import COLOURS, colour, draw

COLUMNS = "index question hint A B C D answer category l2-category image source split".split()


def write(root: Path) -> None:
    write_table(
        root / "mmbench/MMBench_DEV_EN.tsv", [r for n in range(241, 247) for r in question(n)]
    )
    hidden = [row | {"answer": ""} for n in (701, 702) for row in question(n)]
    write_table(root / "mmbench/MMBench_TEST_EN.tsv", hidden)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def question(number: int) -> list[dict[str, Any]]:
    """A question with three or four options in each of its rotations."""
    buffer = io.BytesIO()
    draw(number).save(buffer, "JPEG")
    others = [c for c in COLOURS if c != colour(number)][: 2 + number % 2]
    options = [*others[:1], colour(number), *others[1:]]
    rows = []
    for turn in range(len(options)):
        turned = options[turn:] + options[:turn]
        cells = dict(zip("ABCD", [*turned, ""][:4], strict=True))
        rows.append(
            {
                "index": number + turn * 1_000_000,
                "question": "What color is the square?\nOne answer is right.",
                "hint": 'A "square" is drawn.' if number % 2 else "",
                **cells,
                "answer": "ABCD"[turned.index(colour(number))],
                "category": "attribute_recognition" if number % 2 else "image_style",
                "l2-category": "finegrained_perception (instance-level)",
                "image": b64encode(buffer.getvalue()).decode(),
                "source": "drawn",
                "split": "dev",
            }
        )
    return rows
