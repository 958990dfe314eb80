"""Tiny models of every family that can be built, saved as a user would have them; a file a group."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import torch

from .common import CHATML, GEMMA, TEXT, TURNS, VISION, Parts, Tiny, tokenizer

__all__ = [
    "CHATML",
    "FAMILIES",
    "GEMMA",
    "LAYOUT",
    "TEXT",
    "TURNS",
    "VISION",
    "Parts",
    "Tiny",
    "save",
    "tokenizer",
]

FAMILIES: dict[str, Tiny] = {
    name: tiny
    for module in pkgutil.iter_modules(__path__)
    for name, tiny in getattr(
        importlib.import_module(f"{__name__}.{module.name}"), "FAMILIES", {}
    ).items()
}
LAYOUT = {name: tiny.layout for name, tiny in FAMILIES.items()}


def save(name: str, folder: Path, seed: int = 0) -> Path:
    """A checkpoint of the family with random weights, its processor beside it."""
    torch.manual_seed(seed)
    model, processor = FAMILIES[name].build()
    model = model.eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim > 1:
                # Large enough that answers depend on what is seen; the default start is near zero.
                weight.normal_(0.0, 0.08 if "embed" in key else 1.2 / weight.shape[-1] ** 0.5)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
