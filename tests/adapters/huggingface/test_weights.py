"""Weights that a checkpoint's files lack are refused by name: transformers would make them up at random."""

from __future__ import annotations

import json
import shutil
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
    assert "contains no weights" in error.what
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
    info = {"missing_keys": {"pooler.0.weight"}, "mismatched_keys": set(), "unexpected_keys": set()}
    require_all(model, info, "here")
    assert model.pooler[0].weight.isnan().all() and model.body.weight.isfinite().all()
    with pytest.raises(ModelError, match=r"1 are missing \(body.weight\)"):
        require_all(model, {**info, "missing_keys": {"pooler.0.weight", "body.weight"}}, "here")


LORA = ("adapter_config.json", "adapter_model.safetensors")


def copied(folder: Path, into: Path, *files: str) -> Path:
    """A copy of a folder with more files in it."""
    shutil.copytree(folder, into)
    for name in files:
        (into / name).write_text("{}")
    return into


@pytest.mark.parametrize("files", [LORA, LORA[:1], LORA[1:], ("adapter_model.bin",)])
def test_adapters_beside_base_weights_are_named(
    saved: Callable[[str], Path],
    model_file: Callable[..., str],
    tmp_path: Path,
    files: tuple[str, ...],
) -> None:
    folder = copied(saved("llava"), tmp_path / "both", *files)
    (error,) = built(model_file("llava", checkpoint=str(folder))).lacks()
    assert "next to the base weights" in error.what and all(name in error.what for name in files)
    assert "merge_and_unload" in str(error.hint) and "move these files" in str(error.hint)


def test_adapters_in_folders_of_their_own(
    saved: Callable[[str], Path], model_file: Callable[..., str], tmp_path: Path
) -> None:
    """Phi-4's layout: its images are read through the one, its speech through the other."""
    folder = copied(saved("llava"), tmp_path / "phi")
    for inner in ("vision-lora", "speech-lora", ".cache"):
        (folder / inner).mkdir()
        (folder / inner / "adapter_model.safetensors").write_text("{}")
    (error,) = built(model_file("llava", checkpoint=str(folder))).lacks()
    assert "adapters next to the base weights (speech-lora/, vision-lora/)" in error.what
    for inner in ("vision-lora", "speech-lora"):
        shutil.rmtree(folder / inner)
    assert built(model_file("llava", checkpoint=str(folder))).lacks() == []


def test_an_adapter_alone_is_told_as_one(model_file: Callable[..., str], tmp_path: Path) -> None:
    for name in LORA:
        (tmp_path / name).write_text("{}")
    (error,) = built(model_file("llava", checkpoint=str(tmp_path))).lacks()
    assert "contains an adapter only" in error.what


def test_tensors_of_an_adapter_among_the_weights(
    saved: Callable[[str], Path], model_file: Callable[..., str], tmp_path: Path
) -> None:
    """The base model's own are all there, so nothing is missing; the rest would be left out in silence."""

    def more(tensors: dict[str, Any]) -> dict[str, Any]:
        name = next(name for name in tensors if name.endswith("q_proj.weight"))
        added = {
            f"{name.removesuffix('weight')}lora_{half}.default.weight": torch.ones(2, 2)
            for half in "AB"
        }
        return {**tensors, **added}

    folder = with_weights(saved("llava"), tmp_path / "more", more)
    with pytest.raises(ModelError, match=r"2 adapter tensors.*lora_A"):
        built(model_file("llava", checkpoint=str(folder))).load()


def test_an_answer_ends_where_any_of_the_files_says(
    saved: Callable[[str], Path], model_file: Callable[..., str], tmp_path: Path
) -> None:
    """A fine-tune may name its end of turn in config.json alone, at either level."""
    folder = copied(saved("gemma3"), tmp_path / "ends")
    config = json.loads((folder / "config.json").read_text())
    config["eos_token_id"] = [1, 106]
    config["text_config"]["eos_token_id"] = 107
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 50]}))
    assert built(model_file("gemma3", checkpoint=str(folder))).opened.ends == [1, 50, 106, 107]
    (folder / "generation_config.json").unlink()
    del config["eos_token_id"], config["text_config"]["eos_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    # transformers' own defaults for what no file says are not the model's.
    assert built(model_file("gemma3", checkpoint=str(folder))).opened.ends == [1]
    (folder / "generation_config.json").write_text("{")
    (error,) = built(model_file("gemma3", checkpoint=str(folder))).lacks()
    assert "not JSON" in error.what and "generation_config.json" in str(error.where)
