"""VL-ICL's clevr: a kind of object in each question, their number as the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._vl_icl import image, write_files

KINDS = ("shape: sphere", "color: red", "size: large", "material: metal")


def write(root: Path) -> None:
    def row(part: str, number: int) -> dict[str, Any]:
        return {
            "id": number,
            "image": [image(root, "clevr", part, number)],
            "question": KINDS[number % 4],
            "answer": number % 5,
        }

    query = [row("query", number) for number in range(4)]
    write_files(root, "clevr", query, [row("support", 1000 + number) for number in range(9)])
