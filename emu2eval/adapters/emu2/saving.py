"""Writes a model as a folder that `open_checkpoint` reads: for small trained models and for tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from emu2eval.adapters.emu2.model import Emu2
from emu2eval.errors import ModelError


def save_folder(
    folder: Path,
    model: Emu2,
    *,
    tokenizer: Path | None = None,
    unet: Any = None,
    vae: Any = None,
    scheduler: Any = None,
    dtype: torch.dtype | None = None,
) -> None:
    """model.safetensors under the native names, config.json, tokenizer.model; Gen's parts as diffusers does.

    dtype: what the model's weights are stored in (None = as they are). Raises ModelError for a folder
    that holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError("the folder already exists", where=folder, hint="choose a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors")
    text = json.dumps(model.config.to_json(), indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    if tokenizer is not None:
        shutil.copyfile(tokenizer, folder / "tokenizer.model")
    for name, part in (("unet", unet), ("vae", vae), ("scheduler", scheduler)):
        if part is not None:
            part.save_pretrained(folder / name)
