"""A checkpoint folder of each family, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from . import families


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = families.save(name, tmp_path_factory.mktemp("families") / name)
        return made[name]

    return folder


@pytest.fixture(params=["gemma3", "idefics3", "llava", "qwen2_5_vl"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model_file(saved: Callable[[str], Path], tmp_path: Path) -> Callable[..., str]:
    """Writes the model file of a family; returns its path."""

    def write(family: str, **settings: Any) -> str:
        path = tmp_path / f"{family}.yaml"
        spec = {
            "name": family,
            "adapter": "huggingface",
            "settings": {
                "checkpoint": str(saved(family)),
                "layout": families.LAYOUT.get(family, "chat"),
                "dtype": "float32",
                **settings,
            },
        }
        path.write_text(yaml.safe_dump(spec))
        return str(path)

    return write
