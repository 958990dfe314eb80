"""TextVQA 0.5.1's files: images of train and val in one folder; test without answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import colour, save, write_json


def write(root: Path) -> None:
    for split, first, count in (("val", 34602, 4), ("train", 0, 20), ("test", 39602, 3)):
        folder = "test_images" if split == "test" else "train_images"
        data = []
        for number in range(first, first + count):
            image = f"{number:016x}"
            save(root / "textvqa" / folder / f"{image}.jpg", number)
            row: dict[str, Any] = {
                "question": "what does the sign say?",
                "question_tokens": ["what", "does", "the", "sign", "say"],
                "question_id": number,
                "image_id": image,
                "image_classes": ["Traffic sign"],
                "image_width": 32,
                "image_height": 24,
                "flickr_original_url": "",
                "flickr_300k_url": "",
                "set_name": split,
            }
            if split != "test":
                row["answers"] = [colour(number)] * 8 + ["stop", "answering does not require text"]
            data.append(row)
        write_json(
            root / f"textvqa/TextVQA_0.5.1_{split}.json",
            {
                "dataset_type": split,
                "dataset_name": "textvqa",
                "dataset_version": "0.5.1",
                "data": data,
            },
        )
