"""VQA v2's files: questions and annotations for each split, COCO's images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import colour, save, write_json

HEAD = {"info": {}, "license": {}, "data_type": "mscoco", "task_type": "Open-Ended"}


def write(root: Path) -> None:
    for split, first, count in (("val2014", 1, 4), ("train2014", 1001, 20)):
        listed = range(first, first + count)
        questions = [ask(root, split, image) for image in listed]
        write_json(
            root / f"vqav2/v2_OpenEnded_mscoco_{split}_questions.json",
            {**HEAD, "data_subtype": split, "questions": questions},
        )
        annotations = [annotation(question) for question in questions]
        write_json(
            root / f"vqav2/v2_mscoco_{split}_annotations.json",
            {**HEAD, "data_subtype": split, "annotations": annotations},
        )
    hidden = [ask(root, "test2015", image) for image in range(501, 506)]
    for split, questions in (("test2015", hidden), ("test-dev2015", hidden[:2])):
        write_json(
            root / f"vqav2/v2_OpenEnded_mscoco_{split}_questions.json",
            {**HEAD, "data_subtype": split, "questions": questions},
        )


def ask(root: Path, split: str, image: int) -> dict[str, Any]:
    """A question about image `image`, which is drawn; every third one is of yes or no."""
    save(root / f"coco/{split}/COCO_{split}_{image:012d}.jpg", image)
    text = "Is it red?" if image % 3 == 0 else "What color is the square?"
    return {"image_id": image, "question": text, "question_id": image * 1000 + 1}


def annotation(question: dict[str, Any]) -> dict[str, Any]:
    """Ten answers, eight of them right."""
    shown = colour(question["image_id"])
    yes_or_no = question["question"].startswith("Is")
    right, wrong = shown, "purple"
    if yes_or_no:
        right, wrong = ("yes", "no") if shown == "red" else ("no", "yes")
    answers = [right] * 8 + [wrong] * 2
    return {
        "question_type": "is it" if yes_or_no else "what color is the",
        "multiple_choice_answer": right,
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": number}
            for number, answer in enumerate(answers, 1)
        ],
        "image_id": question["image_id"],
        "answer_type": "yes/no" if yes_or_no else "other",
        "question_id": question["question_id"],
    }
