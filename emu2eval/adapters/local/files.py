"""Files of a checkpoint: where they are, and a digest that names them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from emu2eval.errors import ModelError

MIB = 1 << 20
WHOLE = 64 * MIB
"""Files up to this size are digested whole; of larger ones a sample is."""
_BLOCKS = 64
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def located(
    path_or_id: str | Path,
    revision: str | None,
    patterns: Sequence[str],
    *,
    else_weights: str | None = None,
    example: str,
) -> Path:
    """A local file or folder as it is, or the files of a repository of the hub that fit the patterns.

    else_weights: one more pattern where there are no safetensors. Downloads what is not here. Raises
    ModelError, which says how the files are fetched.
    """
    path, name = _local(path_or_id), str(path_or_id)
    if path is not None:
        return path
    if not HUB_ID.fullmatch(name):
        raise absent(path_or_id, revision, example=example)
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
        if else_weights is not None and next(found.rglob("*.safetensors"), None) is None:
            more = [*patterns, else_weights]
            found = Path(snapshot_download(name, revision=revision, allow_patterns=more))
        return found
    except Exception as error:
        # The hub's client raises its own, httpx's and the system's errors; all mean the same here.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        says = f"{name} is not a local path, and the hub did not provide it ({reason})"
        raise ModelError(says, hint=by_hand(name, revision)) from None


def at_hand(path_or_id: str | Path, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """A local file or folder as it is, or what was fetched of a repository before; no network.

    None where there is neither. A repository may have been fetched in part: its reader checks that.
    """
    path = _local(path_or_id)
    if path is not None or not HUB_ID.fullmatch(str(path_or_id)):
        return path
    from huggingface_hub import snapshot_download

    with suppress(OSError, ValueError):
        return Path(
            snapshot_download(
                str(path_or_id),
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=True,
            )
        )
    return None


def absent(path_or_id: str | Path, revision: str | None, *, example: str) -> ModelError:
    """Says that a checkpoint is not here, and how to get it."""
    name = str(path_or_id)
    if HUB_ID.fullmatch(name):
        return ModelError(f"{name} is not on this machine", hint=by_hand(name, revision))
    return ModelError(
        "no checkpoint found",
        where=name,
        hint=f"give a folder, a weight file, or a hub repository such as {example}",
    )


def _local(path_or_id: str | Path) -> Path | None:
    # The home of an unknown user, or a name that is too long for a file.
    with suppress(RuntimeError, OSError):
        path = Path(path_or_id).expanduser()
        if path.exists():
            return path
    return None


PEFT = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "pytorch_lora_weights.safetensors",
    "pytorch_lora_weights.bin",
)
"""Files of an adapter, such as LoRA, as peft and diffusers write them."""


def refuse_adapters(folder: Path) -> None:
    """Raises ModelError for an adapter's files in a folder, or one inside it: no loader applies them."""
    found = [name for name in PEFT if (folder / name).is_file()]
    if not found:
        _refuse_inner(folder)
        return
    bases = {*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("model_index.json")}
    beside = any(file.name not in PEFT for file in bases)
    where = "next to the base weights, which would be used without it" if beside else "only"
    raise ModelError(
        f"the folder contains an adapter {where} ({', '.join(found)})",
        where=folder,
        hint="merge it into its base model (peft's `merge_and_unload`) and save that; to use the base "
        "model as it is, move these files to another folder",
    )


def _refuse_inner(folder: Path) -> None:
    """As Phi-4 keeps those of its images and its speech."""
    inner = [path for name in PEFT for path in folder.glob(f"[!.]*/{name}")]
    found = sorted({path.parent.name for path in inner})
    if found:
        many = len(found) > 1
        raise ModelError(
            f"the folder contains {'adapters' if many else 'an adapter'} next to the base weights "
            f"({', '.join(f'{name}/' for name in found)}), which would not be used",
            where=folder,
            hint="merge the one for images into the base model (peft's `load_adapter`, then "
            "`merge_and_unload`) and save that; to use the base model as it is, move these folders elsewhere",
        )


def by_hand(name: str, revision: str | None) -> str:
    """The command that fetches a repository, and what to do then."""
    folder = name.rpartition("/")[2]
    at = f" --revision {revision}" if revision is not None else ""
    return (
        f"hf download {name}{at} --local-dir {folder} (with a connection); "
        f"then set `checkpoint` to that folder"
    )


def file_digest(path: Path, whole: int = WHOLE) -> str:
    """Hex sha256 of a file; above `whole` bytes of a sample of it, evenly spaced."""
    with path.open("rb") as file:
        if path.stat().st_size <= whole:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for start, length in _sampled(path):
            file.seek(start)
            digest.update(file.read(length))
        digest.update(str(path.stat().st_size).encode())
        return digest.hexdigest()


def folder_digest(folder: Path, code: bool = False) -> str:
    """Hex sha256 over every file of a checkpoint that decides an answer. code: its Python files too."""
    digest = hashlib.sha256()
    suffixes = (
        ".safetensors",
        ".bin",
        ".json",
        ".jinja",
        ".txt",
        ".model",
        *([".py"] if code else []),
    )
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        if file.suffix in suffixes and not hidden and file.is_file():
            digest.update(f"{inner.as_posix()}\n{file_digest(file)}\n".encode())
    return digest.hexdigest()


def _sampled(path: Path) -> Iterator[tuple[int, int]]:
    if path.name.endswith(".safetensors"):
        with path.open("rb") as file:
            yield 0, 8 + int.from_bytes(file.read(8), "little")
    last = path.stat().st_size - MIB
    for block in range(_BLOCKS):
        yield last * block // (_BLOCKS - 1), MIB
