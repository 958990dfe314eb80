"""VL-ICL's matching_mi: two images a question; support items hold a pair of each kind, without ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._vl_icl import image, write_files


def write(root: Path) -> None:
    def row(part: str, number: int, answer: str) -> dict[str, Any]:
        images = [image(root, "matching_mi", part, number + place) for place in (0, 1)]
        return {"image": images, "question": "Result:", "answer": answer}

    query = [{"id": f"m{n}", **row("query", 10 * n, "no" if n % 2 else "yes")} for n in range(4)]
    support = [
        {
            "same": row("support", 1000 + 10 * n, "yes"),
            "diff": row("support", 1005 + 10 * n, "no"),
        }
        for n in range(7)
    ]
    write_files(root, "matching_mi", query, support)
