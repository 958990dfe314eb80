"""An adapter of PEFT is merged into the weights that it was trained on, and into no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.huggingface.lora import CONFIG, WEIGHTS
from emu2eval.errors import ModelError

from .prompts import CHOICES, built, prompt, request

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # to PEFT


@pytest.fixture
def trained(model_file: Callable[..., str], tmp_path: Path) -> tuple[HuggingFaceAdapter, Path, Any]:
    """A tiny model as it is, the folder of a LoRA for it, and the two merged by PEFT."""
    import peft
    from transformers import AutoModelForImageTextToText

    plain = built(model_file("llava"))
    model: Any = AutoModelForImageTextToText.from_pretrained(plain.settings.checkpoint)
    config = peft.LoraConfig(
        r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=False
    )
    torch.manual_seed(0)
    tuned: Any = peft.get_peft_model(model, config)
    tuned.save_pretrained(tmp_path / "lora")
    return plain, tmp_path / "lora", tuned.merge_and_unload().eval()


def asked(adapter: HuggingFaceAdapter) -> list[Any]:
    adapter.load()
    return [adapter.answer([request(prompt(1, 2), CHOICES)])[0].log_probs]


def test_it_answers_as_the_merged_checkpoint(
    trained: Any, model_file: Callable[..., str], tmp_path: Path
) -> None:
    plain, folder, merged = trained
    with_it = built(model_file("llava", adapter=str(folder)))
    assert with_it.lacks() == []
    whole = Path(plain.settings.checkpoint)
    for file in whole.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "merged" / file.name).parent.mkdir(exist_ok=True)
            (tmp_path / "merged" / file.name).write_bytes(file.read_bytes())
    merged.save_pretrained(tmp_path / "merged")
    saved = built(model_file("llava", checkpoint=str(tmp_path / "merged")))
    assert asked(with_it) == asked(saved) != asked(plain)
    assert with_it.identity()["weights"] == plain.identity()["weights"]
    assert with_it.identity()["adapter"] and "adapter" not in plain.identity()


def test_one_of_another_model_is_refused(trained: Any, model_file: Callable[..., str]) -> None:
    from safetensors.torch import load_file, save_file

    _, folder, _ = trained
    tensors = load_file(folder / WEIGHTS)
    first, *_ = sorted(tensors)
    tensors[first.replace("layers.0", "layers.9")] = tensors.pop(first)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ModelError, match="does not fit this model: 2 of its tensors"):
        built(model_file("llava", adapter=str(folder))).load()


def test_a_configuration_names_no_code(trained: Any, model_file: Callable[..., str]) -> None:
    _, folder, _ = trained
    config = json.loads((folder / CONFIG).read_text())
    named = {"megatron_config": {"a": 1}, "megatron_core": "os"}
    (folder / CONFIG).write_text(json.dumps({**config, **named}))
    (error,) = built(model_file("llava", adapter=str(folder))).lacks()
    assert "names code" in error.what


def test_a_folder_without_one(model_file: Callable[..., str], tmp_path: Path) -> None:
    (error,) = built(model_file("llava", adapter=str(tmp_path))).lacks()
    assert "the folder has no adapter_config.json and adapter_model.safetensors" in error.what


def test_a_folder_that_is_not_there(model_file: Callable[..., str], tmp_path: Path) -> None:
    (error,) = built(model_file("llava", adapter=str(tmp_path / "none"))).lacks()
    assert error.what == "the adapter's folder does not exist"
