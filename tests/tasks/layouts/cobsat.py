"""CoBSAT's folders: an image of every pair of items, a table of captions, and a short list of prompts."""

from __future__ import annotations

import random
from pathlib import Path

from emu2eval.data.cobsat import SPACES, THINGS

from ..drawing import save, write_json

PROMPTS = 2


def write(root: Path) -> None:
    number = 0
    for attribute, thing in THINGS.items():
        lines = ["image,caption,prompt"]
        for of in SPACES[thing].split():
            for item in SPACES[attribute].split():
                save(root / f"cobsat/datasets/{attribute}_{of}/{item}_{of}.jpg", number)
                lines.append(f'{item}_{of}.jpg,"A {of}, {item}.",')
                number += 1
        table = root / f"cobsat/datasets/{attribute}_{thing}.csv"
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rng = random.Random(123)
    prompts = [
        {"x_list": rng.sample(range(10), 10), "theta_list": rng.sample(range(10), 10)}
        for _ in range(PROMPTS)
    ]
    write_json(root / "cobsat/load_datasets/prompts_list_default.json", prompts)
