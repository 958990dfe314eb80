"""DreamBench: a thing and an animal, and the file of classes and prompts (CC BY 4.0) in its own format."""

from __future__ import annotations

from pathlib import Path

from ..drawing import save

CLASSES = {"backpack": "backpack", "cat2": "cat"}
PLACES = (
    "in the jungle",
    "in the snow",
    "on the beach",
    "on a cobblestone street",
    "on top of pink fabric",
    "on top of a wooden floor",
    "with a city in the background",
    "with a mountain in the background",
    "with a blue house in the background",
    "on top of a purple rug in a forest",
)
MORE_PLACES = (
    "with a wheat field in the background",
    "with a tree and autumn leaves in the background",
    "with the Eiffel Tower in the background",
    "floating on top of water",
    "floating in an ocean of milk",
    "on top of green grass with sunflowers around it",
    "on top of a mirror",
    "on top of the sidewalk in a crowded street",
    "on top of a dirt road",
    "on top of a white rug",
)
CLOTHES = (
    "wearing a red hat",
    "wearing a santa hat",
    "wearing a rainbow scarf",
    "wearing a black top hat and a monocle",
    "in a chef outfit",
    "in a firefighter outfit",
    "in a police outfit",
    "wearing pink glasses",
    "wearing a yellow shirt",
    "in a purple wizard outfit",
)
QUALITIES = ("red", "purple", "shiny", "wet", "cube shaped")


def prompts(scenes: tuple[str, ...]) -> list[str]:
    """The lines of one list, as they stand in the file."""
    templates = [f"a {{0}} {{1}} {scene}" for scene in scenes]
    templates += [f"a {quality} {{0}} {{1}}" for quality in QUALITIES]
    lines = [f"'{template}'.format(unique_token, class_token)," for template in templates]
    return ["prompt_list = [", *lines[:-1], lines[-1].removesuffix(","), "]"]


def official(classes: dict[str, str]) -> str:
    """prompts_and_classes.txt."""
    lines = ["Classes", "", "subject_name,class"]
    lines += [f"{subject},{its_class}" for subject, its_class in classes.items()]
    lines += ["", "Prompts", "", "Object Prompts", "", *prompts(PLACES + MORE_PLACES)]
    lines += ["", "Live Subject Prompts", "", *prompts(PLACES + CLOTHES), ""]
    return "\n".join(lines)


def write(root: Path) -> None:
    base = root / "dreambooth/dataset"
    for place, subject in enumerate(CLASSES):
        for number in range(4):
            save(base / subject / f"{number:02d}.jpg", 10 * place + number)
    (base / "prompts_and_classes.txt").write_text(official(CLASSES), encoding="utf-8")
    (base / "references_and_licenses.txt").write_text("drawn\n", encoding="utf-8")
