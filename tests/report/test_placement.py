"""`emu2eval plan`: a table where the model fits, a sentence where it does not."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="planning needs the extra emu2")
pytest.importorskip("diffusers", reason="planning needs the extra emu2")

from rich.console import Console

from emu2eval.errors import ConfigError, ModelError
from emu2eval.report.placement import show_plan


def shown(*args: Any, **options: Any) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(show_plan(*args, **options))
    return captured.get()


def test_a_table_of_devices() -> None:
    text = shown("emu2-chat", "24GiB,24GiB,24GiB,24GiB", 4, 2)
    # Five times an image, its two marks and 32 tokens of text; one <s>; ten tokens of the answer.
    assert "4 shots · 1,461 positions" in text and "batch 2 · 5 beams" in text
    assert "GPU 3" in text and "embeddings, bridges, lm_head, vision 0–63, layers 0–" in text


def test_the_visual_decoder_is_shown() -> None:
    assert "UNet, VAE" in shown("emu2-gen", "5x24GiB", batch=1)


def test_long_prompts_and_offloading_are_told() -> None:
    text = shown("emu2-chat", "40GiB,cpu:100GiB", 8, 1)
    assert "more than the 2,048" in text and "slow" in text


def test_what_does_not_fit() -> None:
    with pytest.raises(ModelError, match="does not fit"):
        show_plan("emu2", "24GiB")


def test_other_models() -> None:
    with pytest.raises(ConfigError, match="plan knows the memory of Emu2 models"):
        show_plan("nearest", "24GiB")
