"""MM-Vet's files: mm-vet.json and a folder of images of several formats."""

from __future__ import annotations

from pathlib import Path

from ..drawing import colour, save, write_json

# What a question asks, its answer, and the capabilities that it needs.
ASKED = (
    ("What color is the square?", "{colour}", ["rec"]),
    ("Which numbers are hidden here?", "-1<AND>-{number}", ["ocr", "math"]),
    ("What is shown?", "a square<OR>a {colour} thing", ["rec", "know"]),
    ("Describe the image.", "A {colour} square stands on grey.", ["rec", "gen"]),
)


def write(root: Path) -> None:
    questions = {}
    for number in range(8):
        text, answer, capability = ASKED[number % len(ASKED)]
        name = f"v1_{number}.{'png' if number % 2 else 'jpg'}"
        save(root / "mm-vet/images" / name, number)
        questions[f"v1_{number}"] = {
            "imagename": name,
            "question": text,
            "answer": answer.format(colour=colour(number), number=number),
            "imagesource": "drawn",
            "capability": capability,
        }
    write_json(root / "mm-vet/mm-vet.json", questions)
