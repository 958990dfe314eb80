"""VL-ICL's cobsat: queries and support share a task and what is latent; two right answers each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..drawing import COLOURS
from ._vl_icl import image, write_files

CARS = ("car", "hat")


def write(root: Path) -> None:
    def row(number: int, latent: str, **more: Any) -> dict[str, Any]:
        found = {"object": CARS[number % 2], "attribute": COLOURS[number // 2 % 4]}
        said = found["attribute" if latent == "object" else "object"]
        return {
            "id": f"{latent}_{number}",
            "task": "color_object",
            "latent": latent,
            **found,
            "question": f"{said}: ",
            "answer": [found[latent], said],
            **more,
        }

    support = [
        row(n, latent, image=image(root, "cobsat", "support", n + 100 * place))
        for place, latent in enumerate(("object", "attribute"))
        for n in range(8 if latent == "object" else 16)
    ]
    query = [row(n, latent) for n in (0, 5) for latent in ("object", "attribute")]
    write_files(root, "cobsat", query, support)
