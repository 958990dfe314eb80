"""How the published checkpoints are laid out: which files hold which part, and whose key is whose.

Native (the authors' own files): one file; Emu2-Gen's has a prefix for each part.
Hugging Face: a folder of shards with an index (Emu2, Emu2-Chat); Emu2-Gen has one folder a part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

from emu2eval.adapters.local.shards import tensors_in
from emu2eval.adapters.local.tensorfile import StoredTensor, read_tensor_list
from emu2eval.errors import ModelError

Part = Literal["encoder", "unet", "vae", "safety_checker"]
PARTS: tuple[Part, ...] = get_args(Part)
"""encoder: vision tower, bridges and language model, `multimodal_encoder` in the Gen layouts."""

Tensors = Mapping[str, StoredTensor]

_PREFIXES: Mapping[str, Part] = {
    "multimodal_encoder.": "encoder",
    "unet.": "unet",
    "vae.": "vae",
    "safety_checker.": "safety_checker",
}
_FOLDERS: Mapping[Part, str] = {
    "encoder": "multimodal_encoder",
    "unet": "unet",
    "vae": "vae",
    "safety_checker": "safety_checker",
}
# The authors' file names: Emu2-Chat_pytorch_model.bf16.bin and the like.
_NATIVE = re.compile(r"_pytorch_model.*\.(bin|pth|safetensors)$")


def encoder_key(key: str) -> str | None:
    """The native name of an encoder's key in any layout; None = not a weight.

    >>> encoder_key("model.decoder.lm.lm_head.weight")
    'decoder.lm.lm_head.weight'
    """
    # transformers 4.31 stored the frequencies of the rotary encoding; they are computed today.
    if key.endswith(".rotary_emb.inv_freq"):
        return None
    inner = key.removeprefix("model.")
    return inner if inner.startswith(("visual.", "decoder.")) else key


def safety_key(key: str) -> str | None:
    """The name that today's transformers gives a safety checker's key; None = not a weight."""
    if key.endswith(".position_ids"):
        return None
    # transformers 5 took one level out of CLIPVisionModel.
    if key.startswith("vision_model.vision_model."):
        return key.removeprefix("vision_model.")
    return key


_RENAMES: Mapping[Part, Callable[[str], str | None]] = {
    "encoder": encoder_key,
    "unet": lambda key: key,
    "vae": lambda key: key,
    "safety_checker": safety_key,
}


def find_parts(path: Path) -> dict[Part, Tensors]:
    """Every part of a checkpoint: its tensors by their names in the live module.

    path: a file or a folder. Raises ModelError for what is no checkpoint.
    """
    if path.is_file():
        return _split(read_tensor_list(path))
    found: dict[Part, Tensors] = {}
    for part, name in _FOLDERS.items():
        stored = list(tensors_in(path / name)) if (path / name).is_dir() else []
        if stored:
            found[part] = _renamed(part, ((tensor.key, tensor) for tensor in stored))
    whole = list(tensors_in(path))
    if whole:
        found = {**_split(whole), **found}
    native = [file for file in path.iterdir() if _NATIVE.search(file.name)] if not found else []
    if len(native) == 1:
        return find_parts(native[0])
    if "encoder" not in found:
        raise ModelError(
            "not an Emu2 checkpoint folder",
            where=path,
            hint="expected model.safetensors, shards with an index JSON, or multimodal_encoder/",
        )
    return found


def _split(stored: Iterable[StoredTensor]) -> dict[Part, Tensors]:
    pairs: dict[Part, list[tuple[str, StoredTensor]]] = {}
    for tensor in stored:
        prefix = next((p for p in _PREFIXES if tensor.key.startswith(p)), "")
        part = _PREFIXES.get(prefix, "encoder")
        pairs.setdefault(part, []).append((tensor.key.removeprefix(prefix), tensor))
    return {part: _renamed(part, listed) for part, listed in pairs.items()}


def _renamed(part: Part, pairs: Iterable[tuple[str, StoredTensor]]) -> Tensors:
    tensors: dict[str, StoredTensor] = {}
    for key, tensor in pairs:
        name = _RENAMES[part](key)
        if name is None:
            continue
        if name in tensors:
            raise ModelError(
                f"two tensors of this checkpoint map to {name}: {tensors[name].key} and {tensor.key}",
                where=tensor.file,
            )
        tensors[name] = tensor
    return tensors
