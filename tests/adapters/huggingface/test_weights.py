"""Weights that a checkpoint's files lack are refused by name: transformers would make them up at random."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emu2eval.adapters.local.weights import require_all
from emu2eval.errors import ModelError

from ...tiny_models import with_weights, without
from .prompts import built, prompt, request


@pytest.mark.parametrize(
    ("family", "part", "said"),
    [
        ("idefics3", "vision_model", "vision_model"),
        ("qwen2_5_vl", "lm_head", "1 are missing (lm_head.weight)"),
        ("llava", "multi_modal_projector", "multi_modal_projector"),
        ("kosmos2", "image_to_text_projection", "image_to_text_projection"),
    ],
)
def test_missing_weights_are_refused_by_name(
    saved: Callable[[str], Path],
    model_file: Callable[..., str],
    tmp_path: Path,
    family: str,
    part: str,
    said: str,
) -> None:
    folder = without(saved(family), tmp_path / "partial", part)
    with pytest.raises(ModelError) as caught:
        built(model_file(family, checkpoint=str(folder))).load()
    assert "missing" in caught.value.what and said in caught.value.what
    assert caught.value.where == str(folder)


def test_weights_behind_the_prefix_of_an_adapter(
    saved: Callable[[str], Path], model_file: Callable[..., str], tmp_path: Path
) -> None:
    """As peft saves a model that was never merged: no name is the model's own."""

    def wrapped(tensors: dict[str, Any]) -> dict[str, Any]:
        return {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}

    folder = with_weights(saved("idefics3"), tmp_path / "wrapped", wrapped)
    with pytest.raises(ModelError, match="missing") as caught:
        built(model_file("idefics3", checkpoint=str(folder))).load()
    assert "LoRA" in str(caught.value.hint)


def test_weights_of_another_shape(
    saved: Callable[[str], Path], model_file: Callable[..., str], tmp_path: Path
) -> None:
    def cut(tensors: dict[str, Any]) -> dict[str, Any]:
        name = next(name for name in tensors if name.endswith("down_proj.weight"))
        return {**tensors, name: tensors[name][:, :-8]}

    folder = with_weights(saved("idefics3"), tmp_path / "cut", cut)
    with pytest.raises(ModelError):
        built(model_file("idefics3", checkpoint=str(folder))).load()


def test_an_adapter_beside_its_base_model_is_refused(
    saved: Callable[[str], Path], model_file: Callable[..., str], tmp_path: Path
) -> None:
    """transformers would load the base model that the file names, from wherever it is."""
    folder = with_weights(saved("llava"), tmp_path / "lora", lambda tensors: tensors)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "x/y"}))
    (error,) = built(model_file("llava", checkpoint=str(folder))).lacks()
    assert "adapter_config.json" in error.what and "merge" in str(error.hint)


def test_tied_weights_are_no_fault(
    saved: Callable[[str], Path], model_file: Callable[..., str], tmp_path: Path
) -> None:
    folder = without(saved("llava"), tmp_path / "tied", "lm_head")
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config))
    adapter = built(model_file("llava", checkpoint=str(folder)))
    adapter.load()
    (response,) = adapter.answer([request(prompt(1, 0))])
    assert response.error is None


def test_no_weights_at_all_are_told_without_loading(
    saved: Callable[[str], Path], model_file: Callable[..., str], tmp_path: Path
) -> None:
    folder = with_weights(saved("llava"), tmp_path / "empty", lambda tensors: tensors)
    (folder / "model.safetensors").unlink()
    (error,) = built(model_file("llava", checkpoint=str(folder))).lacks()
    assert "holds no weights" in error.what
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (error,) = built(model_file("llava", checkpoint=str(folder))).lacks()
    assert "model-00001-of-00002.safetensors, which is missing" in error.what


def test_an_unused_head_that_is_missing_shows_where_it_is_used() -> None:
    """It becomes NaN, which every answer and feature is refused for."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.pooler = (
                torch.nn.Linear(2, 2),
                torch.nn.Sequential(torch.nn.Linear(2, 2)),
            )

    model = Model()
    info = {"missing_keys": {"pooler.0.weight"}, "mismatched_keys": set()}
    require_all(model, info, "here")
    assert model.pooler[0].weight.isnan().all() and model.body.weight.isfinite().all()
    with pytest.raises(ModelError, match=r"1 are missing \(body.weight\)"):
        require_all(model, {**info, "missing_keys": {"pooler.0.weight", "body.weight"}}, "here")
