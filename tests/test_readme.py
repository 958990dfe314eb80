"""What the README promises of one's own model and data holds from beginning to end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import emu2eval
from tests.adapters.huggingface.families import save

ROOT = Path(emu2eval.__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_my_model_on_my_data(tmp_path: Path, make_task: Any, program: Any) -> None:
    """A checkpoint and a folder of images: from nothing to a curve and a page, as it stands there."""
    images = sorted((make_task(queries=6).parent / "images").iterdir())
    for place, image in enumerate(images[:20]):
        folder = tmp_path / "photos" / ("rose", "tulip")[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.rename(folder / image.name)
    save("idefics3", tmp_path / "my-checkpoint")
    block_ = re.search(r"## Your model on your data\n\n.*?```console\n(.*?)```", README, re.DOTALL)
    assert block_
    lines = [line.partition("#")[0].split() for line in block_[1].splitlines()]
    assert [line[1] for line in lines] == ["new", "run", "curves", "report"]
    for line in lines:
        code, out, said = program(*line[1:])
        assert code == 0, said
        if line[1] == "run":
            assert "my-checkpoint" in out and "flowers" in out
    assert (tmp_path / "flowers.svg").is_file() and (tmp_path / "flowers.html").is_file()
