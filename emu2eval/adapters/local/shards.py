"""Weight files in a folder as transformers and diffusers write them: one file, or shards with an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.tensorfile import StoredTensor, read_tensor_list
from emu2eval.errors import ModelError

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


def tensors_in(folder: Path) -> Iterator[StoredTensor]:
    """Every tensor of the folder's weight files; their data is not read."""
    for file in weight_files(folder):
        yield from read_tensor_list(file)


def weight_files(folder: Path) -> list[Path]:
    """The first kind of weight files that the folder holds; none where it holds none.

    Raises ModelError for a shard that an index names and that is missing.
    """
    for stem, old_stem in (
        ("model", "pytorch_model"),
        ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    ):
        for pattern in _WEIGHT_FILES:
            file = folder / pattern.format(stem=stem, bin=old_stem)
            if file.is_file():
                return _shards(file) if file.suffix == ".json" else [file]
    return []


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError("this index lists no weight files (weight_map)", where=index)
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
