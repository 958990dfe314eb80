"""How the published checkpoints are laid out: which files hold which part, and whose key is whose.

Native (the authors' own files): one file; Emu2-Gen's has a prefix for each part.
Hugging Face: a folder of shards with an index (Emu2, Emu2-Chat); Emu2-Gen has one folder a part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

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
# bf16 files first: they are half as large as the others and hold the numbers the authors ran.
_WEIGHT_FILES = (
    "{stem}.safetensors.index.bf16.json",
    "{stem}.bf16.safetensors.index.json",
    "{stem}.bf16.safetensors",
    "{stem}.safetensors.index.json",
    "{stem}.safetensors",
    "{bin}.bin.index.bf16.json",
    "{bin}.bf16.bin",
    "{bin}.bin.index.json",
    "{bin}.bin",
)
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
        stored = list(_tensors_in(path / name)) if (path / name).is_dir() else []
        if stored:
            found[part] = _renamed(part, ((tensor.key, tensor) for tensor in stored))
    whole = list(_tensors_in(path))
    if whole:
        found = {**_split(whole), **found}
    native = [file for file in path.iterdir() if _NATIVE.search(file.name)] if not found else []
    if len(native) == 1:
        return find_parts(native[0])
    if "encoder" not in found:
        raise ModelError(
            "this folder holds no checkpoint of Emu2",
            where=path,
            hint="it holds model.safetensors, shards with an index json, or multimodal_encoder/",
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
                f"two tensors of this checkpoint are {name}: {tensors[name].key} and {tensor.key}",
                where=tensor.file,
            )
        tensors[name] = tensor
    return tensors


def _tensors_in(folder: Path) -> Iterator[StoredTensor]:
    for stem, old_stem in (
        ("model", "pytorch_model"),
        ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    ):
        for pattern in _WEIGHT_FILES:
            file = folder / pattern.format(stem=stem, bin=old_stem)
            if file.is_file():
                for shard in _shards(file) if file.suffix == ".json" else [file]:
                    yield from read_tensor_list(shard)
                return


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError("this index names no weight files (weight_map)", where=index)
    shards = []
    for name in dict.fromkeys(map(str, names.values())):
        # By name only: in the hub's cache the files themselves are links to another folder.
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if len(parts) != 1 or parts[0] in ("..", "/") or ":" in name:
            raise ModelError(
                f"this index names the file {name!r}, which is outside its folder",
                where=index,
                hint="take the checkpoint from its original source",
            )
        if not (index.parent / name).is_file():
            raise ModelError(
                f"this index names {name}, which is missing",
                where=index,
                hint="download the missing shard into the same folder",
            )
        shards.append(index.parent / name)
    return shards


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises ModelError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"this file is not JSON ({error})", where=path) from None
    if not isinstance(data, dict):
        raise ModelError("this file holds no JSON object", where=path)
    return data
