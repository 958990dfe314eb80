"""VizWiz's files: one JSON list a split; answers without ids, some questions without an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import colour, save, write_json


def write(root: Path) -> None:
    for split, first, count in (("val", 0, 4), ("train", 1000, 20), ("test", 500, 3)):
        rows = []
        for number in range(first, first + count):
            name = f"VizWiz_{split}_{number:08d}.jpg"
            save(root / "vizwiz" / split / name, number)
            row: dict[str, Any] = {"image": name, "question": "What color is this?"}
            if split != "test":
                answerable = int(number % 4 != 0)
                right = colour(number) if answerable else "unanswerable"
                # Ten equal answers to every other question: leaving out equal ones together scores 0.
                texts = [right] * (10 if number % 2 else 7)
                texts += ["unsuitable image"] * (10 - len(texts))
                row |= {
                    "answers": [{"answer": t, "answer_confidence": "yes"} for t in texts],
                    "answer_type": "other" if answerable else "unanswerable",
                    "answerable": answerable,
                }
            rows.append(row)
        write_json(root / f"vizwiz/annotations/{split}.json", rows)
