"""VL-ICL's folders: query.json, support.json and the images that both name from the root of all sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import colour, save, write_json

ROOT = "vl_icl"
NAMES = ("daku", "perpo", "blicket")


def image(root: Path, dataset: str, part: str, number: int) -> str:
    """Draws image `number` and returns the path by which the files name it."""
    path = f"{dataset}/{part}/{number:05d}.png"
    save(root / ROOT / path, number)
    return path


def write_files(root: Path, dataset: str, query: list[Any], support: list[Any]) -> None:
    write_json(root / ROOT / dataset / "query.json", query)
    write_json(root / ROOT / dataset / "support.json", support)
    (root / ROOT / dataset / "support").mkdir(parents=True, exist_ok=True)
    (root / ROOT / dataset / "query").mkdir(parents=True, exist_ok=True)


def shown(root: Path, dataset: str, first: int, caption: str) -> dict[str, Any]:
    """Five images of one class as a query holds them."""
    numbers = range(first, first + 5)
    return {
        "images": [image(root, dataset, "support", number) for number in numbers],
        "caption": caption,
        "captions": [f"{caption} thing in {colour(number)}" for number in numbers],
    }


def digits(number: int) -> tuple[int, int]:
    return number % 7 + 1, number % 4 + 1


def results(number: int) -> list[int]:
    """What the operators +, - and x make of the two digits."""
    left, right = digits(number)
    return [left + right, left - right, left * right]


def operators(root: Path, dataset: str, digits: int) -> None:
    """Operator induction, its digits in so many images each."""

    def images(part: str, number: int) -> list[str]:
        return [
            image(root, dataset, part, number * 2 + place + (5000 if part == "query" else 0))
            for place in range(digits)
        ]

    question = "What is the result of the following mathematical expression?"
    support = [
        {"id": f"s{n}", "image": images("support", n), "question": question, "answer": results(n)}
        for n in range(8)
    ]
    query = [
        {
            "id": f"q{n}",
            "image": images("query", n),
            "question": question,
            "operator": "+-x"[n % 3],
            "answer": results(n)[n % 3],
        }
        for n in range(4)
    ]
    write_files(root, dataset, query, support)


def drawings(root: Path, dataset: str, asked: str) -> None:
    """A set whose queries are to be drawn; asked: with the made-up {name} of their class."""
    query = []
    for number in range(4):
        names = [NAMES[(number + step) % 3] for step in (2, 0, 1)]
        first = 2000 + 100 * number
        query.append(
            {
                "id": f"draw_{number}",
                "question": asked.format(name=NAMES[number % 3]),
                "task_label": NAMES[number % 3],
                "answer": f"a thing in {colour(number)}",
                "classes": names,
                "support": {
                    name: shown(root, dataset, first + 10 * place, name)
                    for place, name in enumerate(names)
                },
            }
        )
    write_files(root, dataset, query, [])
