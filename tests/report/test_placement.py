"""`emu2eval plan`: a table where the model fits, a sentence where it does not."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="planning needs the extra emu2")
pytest.importorskip("diffusers", reason="planning needs the extra emu2")

from rich.console import Console

from emu2eval.adapters.memory import Workload, parse_memory
from emu2eval.errors import ConfigError, ModelError
from emu2eval.report.placement import show_plan
from emu2eval.spec.changes import Changes


def shown(model: str, memory: str, **asked: Any) -> str:
    """asked: settings of the model, and what prompts hold."""
    prompts = {key: asked.pop(key) for key in ("shots", "images") if key in asked}
    changes = Changes.of({"model": {f"settings.{key}": value for key, value in asked.items()}})
    console = Console(width=160)
    with console.capture() as captured:
        console.print(show_plan(model, changes, Workload(parse_memory(memory), **prompts)))
    return captured.get()


def test_a_table_of_devices() -> None:
    text = shown("emu2-chat", "24GiB,24GiB,24GiB,24GiB", shots=4, batch=2)
    # Five times an image, its two marks and 32 tokens of text; one <s>; ten tokens of the answer.
    assert "4 shots · 1,461 positions" in text and "batch 2 · 5 beams" in text
    assert "GPU 3" in text and "embeddings, bridges, lm_head, vision 0–63, layers 0–" in text
    assert "bfloat16" in text and "4-bit" in shown("emu2-chat", "40GiB", batch=1, quantize=4)


def test_the_visual_decoder_is_shown() -> None:
    assert "UNet, VAE" in shown("emu2-gen", "5x24GiB", batch=1)


def test_long_prompts_and_offloading_are_told() -> None:
    text = shown("emu2-chat", "40GiB,cpu:100GiB", shots=8, batch=1)
    assert "exceed the 2,048" in text and "slow" in text


def test_what_does_not_fit() -> None:
    with pytest.raises(ModelError, match="does not fit"):
        shown("emu2", "24GiB")


def test_a_checkpoint_that_is_here_is_planned_by_its_own_sizes() -> None:
    assert "4 × 4 for images" in shown("emu2-nano", "cpu:1GiB", images=4)


def test_adapters_that_plan_nothing() -> None:
    with pytest.raises(ConfigError, match="memory planning is not available for nearest"):
        shown("nearest", "24GiB")


def test_the_command(program: Any) -> None:
    code, out, _ = program("plan", "--model", "emu2", "--memory", "80GiB", "--batch", "1")
    assert code == 0 and "batch 1 · 5 beams" in out
    code, _, errors = program("plan", "--model", "emu2", "--memory", "80GiB", "--quantize", "3")
    assert code == 2 and "expected 4 or 8, or null" in errors
