"""Which library prepares images, torchvision or Pillow: their pixels differ, so an answer names its own.

Pillow's resizing is the same in every release and on every machine. torchvision's is torch's: it may change
with a release, and rounds in another way on a CPU without AVX2. The identity holds what decides it.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from emu2eval.adapters.huggingface import vision
from emu2eval.adapters.huggingface.settings import Backend
from emu2eval.errors import ConfigError, MissingExtra

SETTING = "model.settings.image_backend"
NAMES = {"pil": "pillow", "torchvision": "torchvision"}
"""Ours, by transformers' own."""


def backend_of(image_processor: Any) -> str:
    """torchvision or pillow; "own" where a class does not say, as timm's."""
    return NAMES.get(str(getattr(image_processor, "backend", None)), "own")


def identity_of(image_processor: Any) -> dict[str, str]:
    """What decides the pixels beside the processor's own options."""
    used = backend_of(image_processor)
    return {
        "image_processor": type(image_processor).__name__,
        "image_backend": f"{used} {_resizing()}" if used == "torchvision" else used,
    }


def prepares(processor: Any, expansion: Any) -> dict[str, Any]:
    """What decides an image's arrays, in full: for those that are kept on the disk."""
    own = processor.image_processor
    return {
        **identity_of(own),
        "processor": type(processor).__name__,
        "expansion": [type(expansion).__name__, repr(expansion.options)],
        "options": json.dumps(own.to_dict(), sort_keys=True, default=repr),
    }


def with_backend(processor: Any, wanted: Backend, where: Path, *, code: bool = False) -> Any:
    """The processor with its image half of the wanted backend. where: the checkpoint's folder.

    auto = what transformers takes: torchvision, the faster one, where it is here and can do what is
    wanted, else Pillow. Where a family has no such half, it stays the other: see `check`.
    Raises MissingExtra, or ConfigError for a torchvision that would not do the same.
    """
    if wanted == "auto" or backend_of(processor.image_processor) == wanted:
        return processor
    if wanted == "torchvision" and not vision.here("torchvision"):
        raise MissingExtra(
            "torchvision",
            "vision",
            why="image_backend: torchvision",
            hint=f"{vision.command('torchvision')}; or --set {SETTING}=pillow",
        )
    import transformers

    kind: Any = transformers.AutoImageProcessor
    name = next(theirs for theirs, ours in NAMES.items() if ours == wanted)
    other = kind.from_pretrained(where, backend=name, trust_remote_code=code)
    if type(other).__name__ in _lanczos_alone():
        raise ConfigError(
            f"this torchvision ({version('torchvision')}) has no Lanczos resizing, which "
            f"{type(other).__name__} uses; it would take another in silence",
            where=SETTING,
            hint="torchvision 0.27 or later; or leave the setting out",
        )
    processor.image_processor = other
    return processor


def check(image_processor: Any, wanted: Backend, where: Path | str) -> None:
    """Raises ConfigError where an image processor works through another library than the wanted one."""
    used = backend_of(image_processor)
    if wanted not in ("auto", used):
        works = "prepares images in its own way" if used == "own" else f"works with {used}"
        raise ConfigError(
            f"image_backend is {wanted}, and this model's {type(image_processor).__name__} {works}",
            where=where,
            hint=f"leave it out: --set {SETTING}=auto",
        )


def _resizing() -> str:
    """The release of torchvision, 0.28, and whether 8-bit images are resized as such."""
    import torch

    release = ".".join(version("torchvision").split(".")[:2])
    # As torchvision decides it (transforms.v2.functional): elsewhere it resizes in float32 and rounds.
    narrow = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return release if narrow or platform.machine() in ("aarch64", "arm64") else f"{release} float32"


def _lanczos_alone() -> tuple[str, ...]:
    """Image processors that transformers gives to Pillow alone beside the torchvision that is here."""
    from transformers.models.auto import image_processing_auto

    known: Any = image_processing_auto
    return tuple(getattr(known, "DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS", ()))
