"""MSVD-QA's files: questions by numbered videos, and the names that the clips of MSVD have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import colour, film, write_json


def write(root: Path) -> None:
    names = []
    for split, first, count in (("train", 1, 20), ("val", 21, 2), ("test", 23, 4)):
        rows = []
        for number in range(first, first + count):
            name = f"-4wsuPCjDBc_{number}_{number + 10}"
            names.append(f"{name} vid{number}")
            film(root / f"msvd/YouTubeClips/{name}.avi", number)
            rows.append(row(number, f"what color is the square of {number}?"))
        write_json(root / f"msvd_qa/{split}_qa.json", rows)
    (root / "msvd_qa/youtube_mapping.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def row(number: int, question: str) -> dict[str, Any]:
    return {"answer": colour(number), "id": 100 + number, "question": question, "video_id": number}
