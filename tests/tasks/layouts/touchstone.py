"""TouchStone's file: a TSV whose cells hold images as base64, and texts of several lines in quotes."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

from ..drawing import colour, draw

CATEGORIES = ("Recognition", "Comprehension,Recognition", "Storytelling", "Multi-image Analysis")
HEADER = "index image question human_annotation gpt4_ha_answer category task_name".split()


def write(root: Path) -> None:
    path = root / "touchstone/touchstone_20230831.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(HEADER)
        for number in range(8):
            shown = colour(number)
            data = io.BytesIO()
            draw(number).save(data, "JPEG")
            writer.writerow(
                [
                    number,
                    base64.b64encode(data.getvalue()).decode(),
                    'What is "in the middle"?\nTell in a sentence.',
                    f"A {shown} square.\nIts ground is grey.",
                    f"A {shown} square is in the middle.",
                    CATEGORIES[number % len(CATEGORIES)],
                    "Attribute Recognition",
                ]
            )
