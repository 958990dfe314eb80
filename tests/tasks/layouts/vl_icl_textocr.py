"""VL-ICL's textocr: the same question everywhere, a word as the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import colour
from ._vl_icl import image, write_files


def write(root: Path) -> None:
    def row(part: str, number: int) -> dict[str, Any]:
        return {
            "id": f"{number:016x}",
            "image": [image(root, "textocr", part, number)],
            "question": "The text is",
            "answer": colour(number).upper(),
        }

    query = [row("query", number) for number in range(4)]
    write_files(root, "textocr", query, [row("support", 1000 + number) for number in range(9)])
