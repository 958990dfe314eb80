"""VL-ICL's open_mi: each query holds its classes, of made-up names, and five images of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._vl_icl import NAMES, image, shown, write_files


def write(root: Path) -> None:
    query: list[dict[str, Any]] = []
    for number in range(4):
        # The order of classes differs from that of their names.
        classes = [NAMES[(number + step) % 3] for step in (1, 0, 2)]
        first = 1000 + 100 * number
        query.append(
            {
                "id": f"open_{number}",
                "image": [image(root, "open_mi", "query", number)],
                "question": "This is a",
                "answer": NAMES[number % 3],
                "classes": classes,
                "support": {
                    name: shown(root, "open_mi", first + 10 * place, f"This is a {name}")
                    for place, name in enumerate(classes)
                },
            }
        )
    write_files(root, "open_mi", query, [])
