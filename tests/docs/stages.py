"""What stands ready before the blocks of a page run: small stand-ins for a reader's own data and model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeTask


class Stage:
    """folder: the page's; names: what its Python blocks may use without having made it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, make_task: MakeTask):
        self.folder, self.patch, self.make_task = folder, patch, make_task
        self.names: dict[str, Any] = {}

    def squares(self) -> None:
        """squares/squares.yaml, a task of three questions."""
        self.make_task(queries=3, pool=4, output={"kind": "text", "max_new_tokens": 2})

    def memory(self) -> None:
        """A model that lies in memory, and a training of two steps."""
        self.squares()
        self.patch.syspath_prepend(self.folder / "examples")
        import tiny_model

        model, processor = tiny_model.tiny_model()
        self.names = {
            "model": model, "processor": processor, "loader": range(2), "train": lambda *_: None,
            "arguments": None, "data": None, "Trainer": lambda *_, **__: None,
        }  # fmt: skip


STAGES: dict[str, tuple[Callable[[Stage], None], ...]] = {
    "docs/how-to/in-memory.md": (Stage.memory,),
}
"""Page -> what it needs; every other page starts from an empty folder and what it writes itself."""
