"""`emu2eval plan`: a table where the model fits, a sentence where it does not."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="planning needs the extra emu2")
pytest.importorskip("diffusers", reason="planning needs the extra emu2")

from rich.console import Console

from emu2eval.adapters.machine import Machine
from emu2eval.adapters.memory import GIB, Workload, parse_memory
from emu2eval.errors import DoesNotFit
from emu2eval.report.placement import show_plan
from emu2eval.spec.changes import Changes


def shown(name: str, memory: str, width: int = 160, **asked: Any) -> str:
    """asked: what prompts hold, and settings of the model."""
    workload = Workload(
        **{key: asked.pop(key) for key in ("shots", "images", "batch", "beams") if key in asked}
    )
    changes = Changes.of({"model": {f"settings.{key}": value for key, value in asked.items()}})
    console = Console(width=width)
    with console.capture() as captured:
        console.print(show_plan(name, changes, workload, parse_memory(memory)))
    return captured.get()


def test_a_table_of_devices() -> None:
    text = shown("emu2-chat", "24GiB,24GiB,24GiB,24GiB", shots=4, batch=2)
    # Five times an image, its two marks and 32 tokens of text; one <s>; ten tokens of the answer.
    assert "4 shots · 1,461 positions" in text and "batch 2 · 5 beams" in text
    assert "1 replica of 4 GPUs\n" in text
    assert "GPU 3" in text and "embeddings, bridges, lm_head, vision 0–63, layers 0–" in text
    assert "bfloat16" in text and "4-bit" in shown("emu2-chat", "40GiB", batch=1, quantize=4)


def test_replicas_and_their_batch() -> None:
    text = shown("emu2", "7x80GiB", width=80, shots=8, batch=16)
    assert "3 replicas of 2 GPUs; 1 of 7 GPUs left over" in text
    assert "GPU 1" in text and "GPU 2" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "8 replicas of 1 GPU, with batches of 8\n" in shown("emu2", "8x79.2GiB", shots=4)


def test_the_visual_decoder_is_shown() -> None:
    assert "UNet, VAE" in shown("emu2-gen", "5x24GiB", batch=1)


def test_long_prompts_and_offloading_are_told() -> None:
    text = shown("emu2-chat", "40GiB,cpu:100GiB", shots=8, batch=1)
    assert "exceed the 2,048" in text and "slow" in text


def test_what_does_not_fit() -> None:
    with pytest.raises(DoesNotFit, match="does not fit") as caught:
        shown("emu2", "2x24GiB", shots=2, batch=2)
    assert "4 x 24.0 GiB would fit" in str(caught.value)
    assert "4-bit would fit" in str(caught.value)


def test_fewer_shots_that_would_fit_are_said() -> None:
    with pytest.raises(DoesNotFit) as caught:
        shown("emu2", "80GiB", shots=16, batch=4)
    assert "try:   use 8 shots; add " in str(caught.value)
    assert "2 x 80.0 GiB would fit" in str(caught.value)


def test_a_checkpoint_that_is_here_is_planned_by_its_own_sizes() -> None:
    text = shown("emu2-nano", "cpu:1GiB", images=4)
    assert "4 × 4 for images" in text and "replica" not in text


def test_adapters_that_plan_nothing() -> None:
    assert "nearest loads no weights: it runs anywhere" in shown("nearest", "24GiB")
    server = shown("openai-compatible", "24GiB", model="x")
    assert "x is answered by a server" in server


def test_this_machine_where_no_memory_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for here, words in ((Machine(host=8 * GIB), "cpu "), (Machine((GIB,) * 2), "2 replicas of 1")):
        monkeypatch.setattr(Machine, "here", lambda here=here: here)
        console = Console(width=160)
        with console.capture() as captured:
            console.print(show_plan("emu2-nano", Changes(), Workload(batch=2)))
        assert words in captured.get()


def test_the_command(program: Any) -> None:
    code, out, _ = program("plan", "--model", "emu2", "--memory", "80GiB", "--batch", "1")
    assert code == 0 and "batch 1 · 5 beams" in out
    code, _, errors = program("plan", "--model", "emu2", "--memory", "80GiB", "--quantize", "3")
    assert code == 2 and "expected 4 or 8, or null" in errors
