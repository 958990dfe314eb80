"""torchvision and timm: known before loading, told with the release that fits and where it comes from."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu2eval.adapters.huggingface import vision
from emu2eval.adapters.huggingface.checkpoint import TransformersCheckpoint
from emu2eval.doctor.checks import _vision
from emu2eval.errors import MissingExtra, ModelError

from .prompts import built

CPU = "pip install torch==2.13.0+cpu torchvision==0.28.0 --index-url https://download.pytorch.org/whl/cpu"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Which of torch, torchvision and timm are here, in which release; raised: by their import."""

    def set_up(torch: str | None, raised: Exception | None = None, **others: str) -> None:
        here = {"torch": torch, **others}
        monkeypatch.setattr(vision, "_version", here.get)
        monkeypatch.setattr(vision, "find_spec", lambda name: here.get(name))
        monkeypatch.setattr("emu2eval.doctor.checks.find_spec", lambda name: here.get(name))

        def import_module(name: str) -> Any:
            if raised is not None:
                raise raised

        monkeypatch.setattr(vision, "import_module", import_module)

    return set_up


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., TransformersCheckpoint]:
    def make(config: dict[str, Any], **files: Any) -> TransformersCheckpoint:
        for name, content in {"config": config, **files}.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return TransformersCheckpoint(tmp_path)

    return make


@pytest.mark.parametrize(
    ("torch", "said"),
    [
        ("2.13.0+cpu", CPU),
        ("2.9.1+cu128", "torch==2.9.1+cu128 torchvision==0.24.1 --index-url https://download.pytorch.org/whl/cu128"),
        ("2.6.0", "pip install torch==2.6.0 torchvision==0.21.0"),
        ("2.11.0+rocm7.1", "torchvision==0.26.0 --index-url https://download.pytorch.org/whl/rocm7.1"),
        ("2.14.0.dev20261101+cpu", "--pre torch==2.14.0.dev20261101+cpu torchvision --index-url "
                                   "https://download.pytorch.org/whl/nightly/cpu"),
        ("2.6.0a0+ecf3bae40a.nv25.1", "that goes with torch 2.6.0a0+ecf3bae40a.nv25.1, from where"),
        (None, "pip install 'emu2eval[vision]'"),
    ],
)  # fmt: skip
def test_the_release_that_fits(machine: Callable[..., None], torch: str | None, said: str) -> None:
    """Its torch is named, so that pip does not put another in its place."""
    machine(torch)
    assert vision.command("torchvision").endswith(said) or said in vision.command("torchvision")
    assert vision.command("timm") in ("pip install timm", "pip install 'emu2eval[vision]'")


TENSORS, BOTH = ["torchvision"], ["torchvision", "timm"]
TIMM = {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224"}


def named(kind: str) -> dict[str, str]:
    return {"image_processor_type": kind}


@pytest.mark.parametrize(
    ("config", "files", "needed"),
    [
        ({"model_type": "llava"}, {}, []),
        ({"model_type": "qwen3_vl"}, {"preprocessor_config": named("Qwen2VLImageProcessorFast")}, []),
        ({"model_type": "molmo2"}, {}, TENSORS),
        ({"model_type": "llava"}, {"preprocessor_config": named("Llama4ImageProcessorFast")}, TENSORS),
        ({"model_type": "llava"},
         {"processor_config": {"image_processor": named("Lfm2VlImageProcessor")}}, TENSORS),
        ({"model_type": "molmo2"}, {"preprocessor_config": named("TheirOwn")}, []),
        ({"model_type": "gemma3n"}, {}, BOTH),
        ({"model_type": "llava", "vision_config": TIMM}, {}, BOTH),
    ],
)  # fmt: skip
def test_what_a_checkpoint_needs(
    folder: Callable[..., TransformersCheckpoint],
    config: dict[str, Any],
    files: dict[str, Any],
    needed: list[str],
) -> None:
    assert vision.needs(folder(config, **files)) == needed


def test_what_is_missing_is_told_before_anything_is_read(
    machine: Callable[..., None], folder: Callable[..., TransformersCheckpoint]
) -> None:
    machine("2.13.0+cpu")
    checkpoint = folder({"model_type": "gemma3n"})
    with pytest.raises(MissingExtra, match="type gemma3n needs the package 'torchvision and timm'"):
        vision.check(checkpoint)
    machine("2.13.0+cpu", torchvision="0.28.0+cpu")
    with pytest.raises(MissingExtra, match="needs the package 'timm'") as caught:
        vision.check(checkpoint)
    assert caught.value.hint == "pip install timm"
    machine("2.13.0+cpu", torchvision="0.28.0+cpu", timm="1.0.31")
    vision.check(checkpoint)


def test_a_torchvision_of_another_torch(
    machine: Callable[..., None], model_file: Callable[..., str]
) -> None:
    """It breaks models that do without it, too; `emu2eval check` says the same."""
    machine(
        "2.13.0+cpu", RuntimeError("operator torchvision::nms does not exist"), torchvision="0.27.0"
    )
    (error,) = built(model_file("llava")).lacks()
    assert isinstance(error, ModelError)
    assert (
        "torchvision 0.27.0 does not work with torch 2.13.0+cpu (operator torchvision::nms"
        in error.what
    )
    assert f"{CPU}; or" in str(error.hint) and "pip uninstall torchvision" in str(error.hint)
    found = _vision()
    assert not found.holds and error.what in found.seen
    machine("2.13.0+cpu")
    found = _vision()
    assert found.holds and CPU in found.seen and "then pip install timm" in found.seen


def test_packages_that_are_here_work() -> None:
    for name in vision.PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            assert vision.broken(name) is None
        else:
            assert vision.broken(name) is None
