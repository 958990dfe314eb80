"""OK-VQA's files: as VQA v2's, with answers stemmed and as typed, and names of the question types."""

from __future__ import annotations

from pathlib import Path

from ..drawing import colour, write_json
from .vqav2 import HEAD, ask

TYPES = {"one": "Vehicles and Transportation", "other": "Other"}


def write(root: Path) -> None:
    for split, first, count in (("val2014", 1, 4), ("train2014", 1001, 20)):
        questions, annotations = [], []
        for image in range(first, first + count):
            question = {**ask(root, split, image), "question": "What is the square doing?"}
            questions.append(question)
            typed = ["racing"] * 6 + [colour(image)] * 4
            annotations.append(
                {
                    "image_id": image,
                    "question_id": question["question_id"],
                    "question_type": ("one", "other")[image % 2],
                    "answer_type": "other",
                    "confidence": 3,
                    "answers": [
                        {
                            "answer": {"racing": "race"}.get(answer, answer),
                            "raw_answer": answer,
                            "answer_confidence": "yes",
                            "answer_id": number,
                        }
                        for number, answer in enumerate(typed, 1)
                    ],
                }
            )
        write_json(
            root / f"okvqa/OpenEnded_mscoco_{split}_questions.json",
            {**HEAD, "data_subtype": split, "questions": questions},
        )
        write_json(
            root / f"okvqa/mscoco_{split}_annotations.json",
            {**HEAD, "question_types": TYPES, "annotations": annotations},
        )
