"""MSRVTT-QA's files: as MSVD-QA's, with categories; test clips in a folder of their own."""

from __future__ import annotations

from pathlib import Path

from ..drawing import film, write_json
from .msvd_qa import row


def write(root: Path) -> None:
    for split, first, count in (("train", 0, 20), ("val", 6513, 2), ("test", 7010, 4)):
        folder = "TestVideo" if split == "test" else "TrainValVideo"
        rows = []
        for number in range(first, first + count):
            film(root / f"msrvtt/{folder}/video{number}.mp4", number)
            asked = row(number, ("who moves?", "what color is the square?")[number % 2])
            rows.append({**asked, "category_id": number % 20})
        write_json(root / f"msrvtt_qa/{split}_qa.json", rows)
