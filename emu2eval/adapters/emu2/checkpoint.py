"""A checkpoint of Emu2: what it is, where its tensors are, and how it becomes a model.

It is a folder or a file of any published layout (see `layouts`), or one written by `save_folder`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.adapters.emu2.config import VARIANTS, Emu2Config, Variant
from emu2eval.adapters.emu2.layouts import Part, Tensors, find_parts
from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.files import file_digest, refuse_adapters
from emu2eval.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh

    from emu2eval.adapters.emu2.model import Emu2
    from emu2eval.adapters.emu2.painter import Painter
    from emu2eval.adapters.local.bits import Bits
    from emu2eval.adapters.local.placement import Placement
    from emu2eval.adapters.memory import Device


@dataclass(frozen=True)
class Emu2Checkpoint:
    """path: its file or folder; parts: where the tensors of each part lie; configs: JSON of Gen's parts."""

    path: Path
    config: Emu2Config
    parts: Mapping[Part, Tensors]
    configs: Mapping[str, Mapping[str, Any]]
    tokenizer_path: Path | None

    @property
    def variant(self) -> Variant:
        return self.config.variant

    @property
    def paints(self) -> bool:
        return "unet" in self.parts and "vae" in self.parts

    def shapes(self, part: Part = "encoder") -> dict[str, tuple[int, ...]]:
        """The names and shapes of a part's tensors, without reading them."""
        return {name: stored.shape for name, stored in self.parts.get(part, {}).items()}

    def files(self) -> list[Path]:
        """Every weight file, in order."""
        stored = (tensor for part in self.parts.values() for tensor in part.values())
        return sorted({tensor.file for tensor in stored})

    def digest(self) -> str:
        """Hex sha256 over configuration, tokenizer and weight files.

        Of files above 64 MiB: their size, safetensors header and 64 evenly spaced blocks of 1 MiB.
        """
        digest = hashlib.sha256()
        sizes = {"encoder": self.config.to_json(), **{k: dict(v) for k, v in self.configs.items()}}
        digest.update(json.dumps(sizes, sort_keys=True).encode())
        if self.tokenizer_path is not None:
            digest.update(file_digest(self.tokenizer_path).encode())
        root = self.path if self.path.is_dir() else self.path.parent
        for file in self.files():
            digest.update(f"{file.relative_to(root).as_posix()}\n{file_digest(file)}\n".encode())
        return digest.hexdigest()


def open_checkpoint(path: Path, variant: Variant | None = None) -> Emu2Checkpoint:
    """Opens a file or folder; reads no weights.

    variant: where the files do not say. Raises UnknownName, ConfigError or ModelError.
    """
    if path.is_dir():
        refuse_adapters(path)
    parts = find_parts(path)
    config = _config(path, parts, variant)
    return Emu2Checkpoint(path, config, parts, _part_configs(path), _tokenizer(path))


def load_model(
    checkpoint: Emu2Checkpoint,
    *,
    dtype: torch.dtype,
    placement: Placement | None = None,
    quantize: Bits | None = None,
    offload_folder: Path | None = None,
    mesh: DeviceMesh | None = None,
) -> Emu2:
    """The model with its weights in `dtype`, on the devices of its placement (None = the first GPU or CPU).

    offload_folder: where blocks placed on "disk" go if the checkpoint is a pickle. mesh: of the ranks that
    hold the language model together, of which only this one's shares are read.
    """
    from emu2eval.adapters.emu2.loading import build_encoder

    return build_encoder(
        checkpoint.config,
        checkpoint.parts["encoder"],
        dtype=dtype,
        placement=placement,
        quantize=quantize,
        where=checkpoint.path,
        offload=offload_folder,
        mesh=mesh,
    )


def load_painter(
    checkpoint: Emu2Checkpoint,
    *,
    dtype: torch.dtype,
    device: torch.device | Device | None = None,
    safety: bool = False,
) -> Painter:
    """The visual decoder of Emu2-Gen on one device; safety: with the safety checker of the checkpoint."""
    from emu2eval.adapters.emu2.loading import build_painter
    from emu2eval.adapters.local.devices import default_device

    return build_painter(
        checkpoint.configs,
        checkpoint.parts,
        dtype=dtype,
        device=default_device() if device is None else device,
        safety=safety,
        where=checkpoint.path,
    )


def _config(path: Path, parts: Mapping[Part, Tensors], variant: str | None) -> Emu2Config:
    folder = path if path.is_dir() else path.parent
    for file in (folder / "config.json", folder / "multimodal_encoder" / "config.json"):
        if not file.is_file():
            continue
        data = read_json(file)
        if "vision_config" in data or "architectures" in data:
            return _hub_config(data, parts, variant, file)
        config = Emu2Config.from_json(data, where=file)
        if variant is not None and variant != config.variant:
            raise ConfigError(
                f"this checkpoint is the variant {config.variant}, not {variant}", where=file
            )
        return config
    official = Emu2Config.official(_guessed(parts, variant, "base"))
    rows = _rows(parts)
    return official if rows is None else _with_rows(official, rows)


def _hub_config(
    data: Mapping[str, Any], parts: Mapping[Part, Tensors], variant: str | None, where: Path
) -> Emu2Config:
    """From the configuration class of the Hugging Face repositories, whose sizes may be left out."""
    named = str(data.get("model_version", "base"))
    if named not in VARIANTS:
        raise UnknownName("variant", named, VARIANTS, where=where, of="Emu2")
    official = Emu2Config.official(_guessed(parts, variant, named))
    vision = data.get("vision_config") or {}
    if not isinstance(vision, Mapping):
        raise ConfigError("vision_config contains no sizes", where=where)
    known = official.to_json()
    sizes = {
        **_updated(known, vision, ("n_query", "v_query")),
        "vision": _updated(known["vision"], vision),
        "decoder": _updated(known["decoder"], data),
    }
    config = Emu2Config.from_json(sizes, where=where)
    rows = _rows(parts)
    # The embedding has the last word on the vocabulary: added tokens may not be counted in the file.
    return config if rows is None else _with_rows(config, rows)


def _guessed(parts: Mapping[Part, Tensors], variant: str | None, otherwise: str) -> Variant:
    """The variant by what a checkpoint holds: Gen has a UNet, Chat two more rows of the vocabulary."""
    chat = Emu2Config.official("chat")
    if variant is None and "unet" in parts:
        variant = "gen"
    if variant is None and _rows(parts) == chat.decoder.vocab_size:
        variant = "chat"
    chosen = variant or otherwise
    return next(known for known in VARIANTS if known == chosen)


def _rows(parts: Mapping[Part, Tensors]) -> int | None:
    embedding = parts["encoder"].get("decoder.lm.model.embed_tokens.weight")
    return embedding.shape[0] if embedding is not None and embedding.shape else None


def _with_rows(config: Emu2Config, rows: int) -> Emu2Config:
    return replace(config, decoder=replace(config.decoder, vocab_size=rows))


def _updated(
    sizes: Mapping[str, Any], data: Mapping[str, Any], names: Iterable[str] | None = None
) -> dict[str, Any]:
    """sizes, with those of them (or of the names) that data holds taken from there."""
    new = {name: data.get(name) for name in (sizes if names is None else names)}
    return {**sizes, **{name: value for name, value in new.items() if value is not None}}


def _part_configs(path: Path) -> dict[str, dict[str, Any]]:
    if path.is_file():
        return {}
    files = {
        "unet": path / "unet" / "config.json",
        "vae": path / "vae" / "config.json",
        "scheduler": path / "scheduler" / "scheduler_config.json",
    }
    return {name: read_json(file) for name, file in files.items() if file.is_file()}


def _tokenizer(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    for inside in ("", "tokenizer", "multimodal_encoder"):
        file = folder / inside / "tokenizer.model"
        if file.is_file():
            return file
    return None
