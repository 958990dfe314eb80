"""What an engine is given to serve, found on this machine: a folder of transformers, or GGUF files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emu2eval.adapters.huggingface.checkpoint import CODE, PATTERNS
from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.files import (
    HUB_ID,
    absent,
    at_hand,
    by_hand,
    file_digest,
    folder_digest,
    located,
    refuse_adapters,
)
from emu2eval.errors import MissingExtra, ModelError

BESIDE = "beside"
EXAMPLE = "Qwen/Qwen2.5-VL-7B-Instruct"
_SHARD = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")


@dataclass(frozen=True)
class ServedCheckpoint:
    """path: a folder, or the first GGUF file; projector: the GGUF file that sees, beside it. code: the
    folder's Python files may run."""

    path: Path
    projector: Path | None = None
    code: bool = False

    def digest(self) -> str:
        """Hex sha256 over the files that decide an answer."""
        if self.path.is_dir():
            return folder_digest(self.path, self.code)
        whole = hashlib.sha256()
        for file in (*_shards(self.path), *([self.projector] if self.projector else [])):
            whole.update(f"{file_digest(file)}\n".encode())
        return whole.hexdigest()

    def size(self) -> int:
        """Bytes of the weights."""
        if self.path.is_dir():
            # Some repositories hold them twice, also as consolidated.safetensors.
            every = list(self.path.glob("model*.safetensors"))
            files = every or list(self.path.glob("*.safetensors")) or list(self.path.glob("*.bin"))
        else:
            files = _shards(self.path)
        return sum(file.stat().st_size for file in files)

    def config(self) -> Mapping[str, Any]:
        """config.json of a folder; empty for GGUF files, which say of themselves what they are."""
        return read_json(self.path / "config.json") if self.path.is_dir() else {}


def patterns(code: bool) -> tuple[str, ...]:
    return (*PATTERNS, CODE) if code else PATTERNS


def open_checkpoint(
    named: str, revision: str | None, *, gguf: bool, code: bool, projector: str | None = BESIDE
) -> ServedCheckpoint:
    """The checkpoint, without the network. projector: a file; BESIDE = the one beside a GGUF model, if any.

    Raises ModelError where it is not on this machine or nothing that the engine could serve, MissingExtra
    where the hub's own package is needed to find it.
    """
    _check_hub(named)
    path = at_hand(named, revision, patterns(code))
    if path is None:
        raise absent(named, revision, example=EXAMPLE)
    if gguf:
        return _gguf(named, path, projector)
    if not (path / "config.json").is_file():
        raise ModelError(
            "not a transformers checkpoint: the folder has no config.json",
            where=path,
            hint="give the folder written by `hf download` or `save_pretrained`; GGUF files are served by "
            "--engine llama.cpp",
        )
    refuse_adapters(path)
    if not any(next(path.glob(kind), None) for kind in ("*.safetensors", "*.bin")):
        raise ModelError(
            "the folder contains no weights (*.safetensors)",
            where=path,
            hint=by_hand(named, revision),
        )
    return ServedCheckpoint(path, code=code)


def fetch_checkpoint(named: str, revision: str | None, *, code: bool) -> None:
    """Downloads a repository of the hub. Raises ModelError."""
    located(named, revision, patterns(code), else_weights="*.bin", example=EXAMPLE)


def is_gguf(path: Path) -> bool:
    """Whether a file or a folder is something for llama.cpp."""
    return path.suffix == ".gguf" or (path.is_dir() and next(path.glob("*.gguf"), None) is not None)


def _check_hub(named: str) -> None:
    if (
        HUB_ID.fullmatch(named)
        and not Path(named).exists()
        and find_spec("huggingface_hub") is None
    ):
        raise MissingExtra("huggingface_hub", "hf", why=f"the model {named} on the hub")


def _gguf(named: str, path: Path, projector: str | None) -> ServedCheckpoint:
    folder = path if path.is_dir() else path.parent
    listed = sorted(folder.glob("*.gguf"))
    projectors = [file for file in listed if "mmproj" in file.name.casefold()]
    if path.is_dir():
        models = [f for f in listed if f not in projectors and _first(f)]
        if len(models) != 1:
            names = ", ".join(file.name for file in models) or "none"
            raise ModelError(
                f"one GGUF model is needed, and there are: {names}",
                where=path,
                hint="give the file itself: --model FILE.gguf; for llama.cpp, a repository that holds them: "
                f"hf download {named.rpartition('/')[0] or 'ORG'}/NAME-GGUF --include '*Q8_0*' 'mmproj*' "
                "--local-dir NAME",
            )
        (path,) = models
    elif not path.is_file():
        raise ModelError("no such GGUF file", where=path)
    if projector != BESIDE:
        if projector is not None and not Path(projector).is_file():
            raise ModelError("no such projector", where=projector)
        return ServedCheckpoint(path, None if projector is None else Path(projector))
    if len(projectors) > 1:
        raise ModelError(
            f"several projectors are next to the model: {', '.join(file.name for file in projectors)}",
            where=folder,
            hint="name one: --set model.settings.options.mmproj=FILE",
        )
    return ServedCheckpoint(path, projectors[0] if projectors else None)


def _first(file: Path) -> bool:
    shard = _SHARD.search(file.name)
    return shard is None or int(shard[1]) == 1


def _shards(first: Path) -> list[Path]:
    shard = _SHARD.search(first.name)
    if shard is None:
        return [first]
    return sorted(first.parent.glob(f"{first.name[: shard.start()]}-*-of-*.gguf"))
