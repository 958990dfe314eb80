"""A tiny LLaVA with dropout, and squares of which it learns to say the colour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emu2eval.media import images
from emu2eval.testing import COLOURS, square

from ..adapters.huggingface.families import save


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llava", tmp_path_factory.mktemp("training") / "llava")


@pytest.fixture(scope="session")
def processor(folder: Path) -> Any:
    from transformers import AutoProcessor

    kind: Any = AutoProcessor
    return kind.from_pretrained(folder)


@pytest.fixture
def new_model(folder: Path) -> Callable[..., Any]:
    """The same weights each time, or those of a checkpoint of the Trainer."""
    from transformers import AutoModelForImageTextToText

    def make(kept: Path = folder) -> Any:
        kind: Any = AutoModelForImageTextToText
        model = kind.from_pretrained(kept, dtype=torch.float32)
        for layer in model.model.language_model.layers:
            layer.self_attn.attention_dropout = 0.1  # so that training draws random numbers
        return model

    return make


@pytest.fixture(scope="session")
def examples(processor: Any) -> list[dict[str, torch.Tensor]]:
    """Prompts as `small_task` asks them without demonstrations, with their answers; all of one length."""
    found = []
    for number, colour in enumerate(COLOURS):
        text = f"<image>what colour is square {number}? Answer: {colour}<eos>"
        shown = images.load(square(colour, number))
        given = processor(text=text, images=shown, return_tensors="pt", padding="max_length",
                          max_length=60)  # fmt: skip
        row = {name: value[0] for name, value in given.items()}
        row["labels"] = row["input_ids"].masked_fill(row["attention_mask"] == 0, -100)
        found.append(row)
    return found
