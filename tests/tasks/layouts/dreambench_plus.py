"""DreamBench++'s folders: an image of each category, and a text file of the same name with its prompts."""

from __future__ import annotations

from pathlib import Path

from ..drawing import save

SUBJECTS = {
    "live_subject/animal/00": "kitten",
    "live_subject/human/01": "old woman",
    "object/00": "Tin Toy",
    "style/02": "ink drawing",
}
SCENES = (
    "{} in the snow",
    "{} on a table",
    "a photo of {} at night",
    "{}",
    "{} as a poster",
    "pixel art of {}",
    "a sculpture",
    "{} riding a whale",
    "{} greeting another {}",
)


def write(root: Path) -> None:
    base = root / "dreambench_plus/data"
    for number, (name, subject) in enumerate(SUBJECTS.items()):
        save(base / f"images/{name}.jpg", number)
        path = base / f"captions/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        prompts = [scene.replace("{}", subject) for scene in SCENES]
        path.write_text("\n".join([subject, *prompts]) + "\n", encoding="utf-8")
