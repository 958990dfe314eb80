"""GQA's files: a mapping from ids to questions, balanced and all; all of train in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import colour, save, write_json

SPLITS = {"testdev": (1, 4), "train": (1001, 20), "val": (301, 3), "test": (401, 3)}
SPLITS["challenge"] = (501, 3)


def write(root: Path) -> None:
    asked: dict[str, dict[str, Any]] = {}
    for split, (first, count) in SPLITS.items():
        every: dict[str, dict[str, Any]] = {}
        hidden = split in ("test", "challenge")
        for image in range(first, first + count):
            save(root / f"gqa/images/n{image}.jpg", image)
            every |= {
                f"{image}1": question(image, "query", hidden, entailed=[f"{image}1", f"{image}2"]),
                f"{image}2": question(image, "verify", hidden, balanced=image % 2 == 0),
            }
        if hidden:
            asked |= every
        balanced = {key: value for key, value in every.items() if value["isBalanced"]}
        folder = root / "gqa/questions"
        write_json(folder / f"{split}_balanced_questions.json", balanced)
        if split == "train":
            for part, keys in enumerate((list(every)[::2], list(every)[1::2])):
                content = {key: every[key] for key in keys}
                write_json(folder / f"train_all_questions/train_all_questions_{part}.json", content)
        else:
            write_json(folder / f"{split}_all_questions.json", every)
    write_json(root / "gqa/questions/submission_all_questions.json", asked)


def question(
    image: int,
    structural: str,
    hidden: bool,
    balanced: bool = True,
    entailed: list[str] | None = None,
) -> dict[str, Any]:
    """A question about image `image`: open (query) or of yes and no (verify)."""
    shown = colour(image)
    asks = "What color is the square?" if structural == "query" else f"Is the square {shown}?"
    found: dict[str, Any] = {"imageId": f"n{image}", "question": asks, "isBalanced": balanced}
    if hidden:
        return found
    return found | {
        "answer": shown if structural == "query" else "yes",
        "fullAnswer": f"The square is {shown}.",
        "groups": {"global": "color", "local": "10-square"},
        "entailed": entailed or [],
        "equivalent": [],
        "types": {"structural": structural, "semantic": "attr", "detailed": "directOf"},
        "annotations": {"question": {}, "answer": {}, "fullAnswer": {}},
        "semantic": [
            {"operation": "select", "dependencies": [], "argument": "square (1)"},
            {"operation": "query" if structural == "query" else "verify color", "dependencies": [0],
             "argument": "color" if structural == "query" else shown},
        ],
        "semanticStr": "select: square (1)->query: color [0]",
    }  # fmt: skip
