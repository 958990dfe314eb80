"""Hateful Memes' files: JSON lines; the labels of test_unseen are left out, as they first were."""

from __future__ import annotations

import json
from pathlib import Path

from ..drawing import colour, save

SPLITS = {
    "train": (1000, 20),
    "dev_seen": (100, 3),
    "test_seen": (1, 4),
    "dev_unseen": (200, 3),
    "test_unseen": (300, 3),
}


def write(root: Path) -> None:
    folder = root / "hateful_memes"
    for split, (first, count) in SPLITS.items():
        lines = []
        for number in range(first, first + count):
            save(folder / f"img/{number:05d}.png", number)
            row = {"id": number, "img": f"img/{number:05d}.png", "label": number % 2}
            if split == "test_unseen":
                del row["label"]
            lines.append(json.dumps({**row, "text": f"they are all {{{colour(number)}}}"}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
