"""POPE's files: JSON lines in three files on COCO val2014, questions counted from 1 in each."""

from __future__ import annotations

import json
from pathlib import Path

from ..drawing import COLOURS, colour, save

CATEGORIES = ("random", "popular", "adversarial")


def write(root: Path) -> None:
    for number in (1, 2):
        save(root / f"coco/val2014/COCO_val2014_{number:012d}.jpg", number)
    for place, category in enumerate(CATEGORIES):
        rows = []
        for number in (1, 2):
            absent = COLOURS[(number + 1 + place) % len(COLOURS)]
            for thing, label in ((colour(number), "yes"), (absent, "no")):
                rows.append(
                    {
                        "question_id": len(rows) + 1,
                        "image": f"COCO_val2014_{number:012d}.jpg",
                        "text": f"Is there a {thing} square in the image?",
                        "label": label,
                    }
                )
        for folder in ("pope", "pope/e3e3926"):
            path = root / f"{folder}/coco_pope_{category}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
