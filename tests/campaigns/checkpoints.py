"""Folders of tiny checkpoints beside a user's files, whose configurations are mutated, too."""

from __future__ import annotations

from pathlib import Path

from .mutations import Target


def write(folder: Path) -> list[Target]:
    """A CLIP, a DINO and an Emu2-Gen below the folder, and what reads their configurations."""
    from .. import tiny_models

    for name in ("clip", "dino", "emu2-gen"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    clip = tiny_models.clip(folder / "clip").relative_to(folder)
    dino = tiny_models.dino(folder / "dino").relative_to(folder)
    gen = tiny_models.emu2_gen(folder / "emu2-gen").relative_to(folder)
    targets = [
        Target(
            f"configuration of {kind}",
            tuple(
                str(path.relative_to(folder)) for path in sorted((folder / where).glob("*.json"))
            ),
            (("features", "-t", "rices.yaml", "--encoder", str(where)),),
        )
        for kind, where in (("CLIP", clip), ("DINO", dino))
    ]
    parts = sorted((folder / gen).parent.rglob("*.json"))
    targets.append(
        Target(
            "configuration of Emu2",
            tuple(str(path.relative_to(folder)) for path in parts),
            (
                ("run", "-t", "text.yaml", "-m", str(gen), "--limit", "1", "--out", "new"),
                ("plan", "-m", str(gen), "--memory", "1GiB"),
            ),
        )
    )
    return [target for target in targets if target.files]
