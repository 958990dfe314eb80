"""The parts of a pipeline that have weights, loaded one by one so that none is filled with random numbers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch

from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.finite import check_values
from emu2eval.adapters.local.weights import require_all


def load_parts(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Models by their names in model_index.json, as the pipeline itself would load them.

    Raises ModelError for weights that the files lack.
    """
    found = {}
    for name, kind in _models(folder):
        # transformers renamed the option; diffusers did not.
        option = "torch_dtype" if kind.__module__.startswith("diffusers.models") else "dtype"
        model, info = kind.from_pretrained(
            folder / name, output_loading_info=True, **{option: dtype}
        )
        require_all(model, info, folder / name)
        found[name] = model
    return found


def _models(folder: Path) -> Iterator[tuple[str, Any]]:
    index = read_json(folder / "model_index.json")
    for name, value in index.items():
        library, kind = value if isinstance(value, list) and len(value) == 2 else (None, None)
        if not isinstance(library, str) or not (folder / name).is_dir():
            continue
        # As in diffusers: a library, or one of its own pipelines' folders.
        home = getattr(diffusers.pipelines, library, None)
        if home is None and library in ("diffusers", "transformers"):
            home = importlib.import_module(library)
        found = getattr(home, str(kind), None)
        if isinstance(found, type) and issubclass(found, torch.nn.Module):
            yield name, found


def watch(pipeline: Any) -> None:
    """Pixels that are no numbers raise NotFinite: the pipeline would make black ones of them."""
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        return
    decode = vae.decode

    def decoded(*given: Any, **named: Any) -> Any:
        found = decode(*given, **named)
        check_values(found[0], "the pixels of the image")
        return found

    vae.decode = decoded
