"""ScienceQA's files: all problems in one, the parts in another, images by part and problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import COLOURS, colour, save, write_json


def write(root: Path) -> None:
    problems: dict[str, Any] = {}
    parts: dict[str, list[str]] = {"minival": []}
    for split, first, count in (("test", 1, 5), ("val", 101, 3), ("train", 201, 20)):
        parts[split] = []
        for number in range(first, first + count):
            problems[str(number)] = problem(root, split, number)
            parts[split].append(str(number))
        # Most problems have no image; those are no part of the IMG subset.
        parts[split].append(f"9{first}")
        problems[f"9{first}"] = {**problem(root, split, first), "image": None}
    write_json(root / "scienceqa/problems.json", problems)
    write_json(root / "scienceqa/pid_splits.json", parts)


def problem(root: Path, split: str, number: int) -> dict[str, Any]:
    """Two to five choices; every other problem has a hint."""
    save(root / f"scienceqa/images/{split}/{number}/image.png", number)
    choices = [*COLOURS[: 2 + number % 3], "purple"]
    right = colour(number) if colour(number) in choices else "purple"
    return {
        "question": "What color is the square?",
        "choices": choices,
        "answer": choices.index(right),
        "hint": "Look at the middle." if number % 2 else "",
        "image": "image.png",
        "task": "closed choice",
        "grade": f"grade{1 + number % 12}",
        "subject": "natural science" if number % 3 else "social science",
        "topic": "color",
        "category": "Color",
        "skill": "Name a color",
        "lecture": "A square has a color.",
        "solution": "",
        "split": split,
    }
