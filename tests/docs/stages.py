"""What stands ready before the blocks of a page run: small stand-ins for a reader's own data and model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.huggingface.families import save
from tests.chat_server import ChatServer
from tests.conftest import MakeTask, encoded


class Stage:
    """folder: the page's; names: what its Python blocks may use without having made it; pinned: variables
    that keep this value whatever the page exports; closing: called after it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, make_task: MakeTask):
        self.folder, self.patch, self.make_task = folder, patch, make_task
        self.names: dict[str, Any] = {}
        self.pinned: dict[str, str] = {}
        self.closing: list[Callable[[], None]] = []

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

    def flowers(self) -> None:
        """A folder of images for each class, and a checkpoint."""
        for place in range(20):
            path = self.folder / "photos" / ("rose", "tulip")[place % 2] / f"{place}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(place))
        save("idefics3", self.folder / "my-checkpoint")

    def server(self) -> None:
        """A server that always says yes, at an address of its own in place of the page's."""
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            self.patch.delenv(name, raising=False)
        server = ChatServer()
        self.closing.append(server.close)
        self.pinned["SERVER"] = server.url


STAGES: dict[str, tuple[Callable[[Stage], None], ...]] = {
    "docs/index.md": (Stage.flowers,),
    "docs/how-to/in-memory.md": (Stage.memory,),
    "docs/tutorials/server.md": (Stage.server,),
}
"""Page -> what it needs; every other page starts from an empty folder and what it writes itself."""
