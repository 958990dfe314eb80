"""torchvision and timm: which a checkpoint needs, which release fits the installed torch, and where from.

A torchvision of another torch breaks every model of transformers, and pip would sooner change torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emu2eval.adapters.huggingface.checkpoint import TransformersCheckpoint
from emu2eval.adapters.local.configfile import read_json
from emu2eval.errors import MissingExtra, ModelError

PACKAGES = ("torchvision", "timm")
_INDEX = "https://download.pytorch.org/whl"
_BUILDS = r"cpu|cu\d+|rocm[\d.]+|xpu"
_TIMM = frozenset({"TimmBackbone", "TimmWrapperModel"})


def release(torch: str) -> str | None:
    """The torchvision that was made for a release of torch 2: 2.13.0+cpu -> 0.28.0. None for any other.

    >>> release("2.9.1"), release("2.14.0.dev20261101+cpu"), release("3.0.0")
    ('0.24.1', None, None)
    """
    found = re.fullmatch(r"2\.(\d+)\.(\d+)(?:\+.*)?", torch)
    return f"0.{int(found[1]) + 15}.{found[2]}" if found else None


def command(*names: str) -> str:
    """What installs them beside the torch that is here, and leaves that as it is."""
    torch = _version("torch")
    if torch is None:
        return "pip install 'emu2eval[vision]'"
    steps = []
    if "torchvision" in names:
        fits, build = release(torch), torch.partition("+")[2]
        given = f"torch=={torch} torchvision" + (f"=={fits}" if fits else "")
        nightly = "nightly/" if ".dev" in torch else ""
        pre = "--pre " if nightly else ""
        if re.fullmatch(_BUILDS, build):
            steps.append(f"pip install {pre}{given} --index-url {_INDEX}/{nightly}{build}")
        elif build:
            steps.append(f"the torchvision{f' {fits}' if fits else ''} that goes with torch {torch}, "
                         "from where that torch is from")  # fmt: skip
        else:
            steps.append(f"pip install {pre}{given}")
    if "timm" in names:
        steps.append("pip install timm")
    return "; then ".join(steps)


def broken(name: str) -> ModelError | None:
    """Why an installed package cannot be imported, and the repair; None where it works or is not here."""
    if not here(name):
        return None
    try:
        import_module(name)
    except Exception as error:
        # A RuntimeError of torch where it was built for another one, an OSError where a library is not here.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        torch, own = _version("torch"), _version(name)
        says = f"{name} {own} does not work with torch {torch} ({reason[:200]})"
        if name == "timm":
            return ModelError(says, hint="pip install --upgrade timm")
        return ModelError(
            f"{says}; it was built for another torch version and breaks every transformers model",
            hint=f"{command(name)}; or, for models that do not need it: pip uninstall {name}",
        )
    return None


def here(name: str) -> bool:
    """Whether a package is installed; looked up without importing it."""
    return find_spec(name) is not None


def check(checkpoint: TransformersCheckpoint) -> None:
    """Raises MissingExtra for what a checkpoint needs and is not here, ModelError for what is broken."""
    wanted = needs(checkpoint)
    # transformers imports a torchvision that is here for every model.
    for name in {"torchvision", *wanted}:
        if error := broken(name):
            raise error
    lacking = [name for name in wanted if not here(name)]
    if lacking:
        why = f"a model of type {checkpoint.config.model_type}"
        raise MissingExtra(" and ".join(lacking), "vision", why=why, hint=command(*lacking))


def needs(checkpoint: TransformersCheckpoint) -> list[str]:
    """Those of `PACKAGES` without which transformers cannot build the processor or the model."""
    timm = any(_made_by_timm(config) for config in _configs(checkpoint.config))
    # transformers takes timm for missing where torchvision is.
    return (["torchvision"] if timm or _tensors_alone(checkpoint) else []) + ["timm"] * timm


def _tensors_alone(checkpoint: TransformersCheckpoint) -> bool:
    """Whether the image processor has no variety that works through Pillow."""
    from transformers.models.auto import image_processing_auto

    known: Any = image_processing_auto
    named = _image_processor(checkpoint.path)
    if named is None:
        own = known.IMAGE_PROCESSOR_MAPPING_NAMES.get(checkpoint.config.model_type, {})
        return "torchvision" in own and "pil" not in own
    plain = re.sub("(Fast|Pil)$", "", named)
    entries = [e for e in known.IMAGE_PROCESSOR_MAPPING_NAMES.values() if plain in e.values()]
    return bool(entries) and all("pil" not in entry for entry in entries)


def _image_processor(folder: Path) -> str | None:
    """The class that the files name."""
    for file in ("processor_config.json", "preprocessor_config.json"):
        if (folder / file).is_file():
            spec = read_json(folder / file)
            named = spec.get("image_processor") or spec
            if isinstance(named, dict) and isinstance(named.get("image_processor_type"), str):
                return str(named["image_processor_type"])
    return None


def _configs(config: Any) -> Iterator[Any]:
    """A configuration and those inside it."""
    yield config
    for inner in vars(config).values():
        if hasattr(inner, "model_type"):
            yield from _configs(inner)


def _made_by_timm(config: Any) -> bool:
    from transformers.models.auto import modeling_auto

    known: Any = modeling_auto
    made = known.MODEL_MAPPING_NAMES.get(config.model_type)
    return made in _TIMM or bool(getattr(config, "use_timm_backbone", False))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
