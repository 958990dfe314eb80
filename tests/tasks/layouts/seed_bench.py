"""SEED-Bench's files: one JSON, images without an ending, the three sets of videos as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import COLOURS, colour, draw, film, write_json

DIMENSIONS = {
    name: number
    for number, name in enumerate(
        (
            "Scene Understanding",
            "Instance Identity",
            "Instance Attributes",
            "Instance Location",
            "Instances Counting",
            "Spatial Relation",
            "Instance Interaction",
            "Visual Reasoning",
            "Text Understanding",
            "Action Recognition",
            "Action Prediction",
            "Procedure Understanding",
        ),
        1,
    )
}


def write(root: Path) -> None:
    folder = root / "seed_bench"
    questions = []
    for number in (1, 2, 3):
        name = f"1454426_25911119{number}"
        path = folder / "SEED-Bench-image" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(number).save(path, "JPEG")
        # The file writes most ids as text; nothing may hang on it.
        question_id: str | int = f"10166{number}" if number < 3 else 101663
        questions.append(question(number, name, "image", question_id, 3))
    for number, dimension, place, data_id, segment in (
        (4, 10, "ssv2/videos", "94328.webm", None),
        (5, 11, "epic-kitchens", "P03/P03_24.MP4", [0.4, 1.0]),
        (6, 12, "breakfast", "P06/cam01/P06_cereals.avi", [2, 8]),
    ):
        film(folder / "film.mp4", number, frames=10)
        (folder / place / data_id).parent.mkdir(parents=True, exist_ok=True)
        (folder / "film.mp4").rename(
            folder / place / data_id
        )  # what is inside decides, not the name
        row = question(number, data_id, "video", f"v{number}", dimension)
        questions.append(row | ({"segment": segment} if segment else {}))
    write_json(folder / "SEED-Bench.json", {"questions": questions, "question_type": DIMENSIONS})


def question(
    number: int, data_id: str, data_type: str, question_id: str | int, dimension: int
) -> dict[str, Any]:
    choices = [COLOURS[(number + place) % len(COLOURS)] for place in (3, 0, 1, 2)]
    return {
        "answer": "ABCD"[choices.index(colour(number))],
        **dict(zip(("choice_a", "choice_b", "choice_c", "choice_d"), choices, strict=True)),
        "data_id": data_id,
        "data_type": data_type,
        "question": "What color is the square?",
        "question_id": question_id,
        "question_type_id": dimension,
    }
