"""torchvision or Pillow: which one prepares images is part of the identity, and never changes in silence."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import transformers

from emu2eval.adapters.huggingface import backends, vision
from emu2eval.adapters.huggingface.live import LiveTransformers
from emu2eval.adapters.huggingface.settings import Backend, HuggingFaceSettings
from emu2eval.errors import ConfigError, MissingExtra

from .prompts import built

HERE = importlib.util.find_spec("torchvision") is not None


class ThroughTorchvision(transformers.CLIPImageProcessorPil):
    """In place of torchvision's, which need not be installed here."""

    @property
    def backend(self) -> str:
        return "torchvision"


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Its release, and that it is what AutoImageProcessor takes where it may."""

    def install(release: str) -> None:
        def from_pretrained(folder: Any, backend: str | None = None, **_: Any) -> Any:
            kind = transformers.CLIPImageProcessorPil if backend == "pil" else ThroughTorchvision
            return kind.from_pretrained(folder)

        monkeypatch.setattr(transformers.AutoImageProcessor, "from_pretrained", from_pretrained)
        monkeypatch.setattr(backends, "version", lambda name: release)
        monkeypatch.setattr(vision, "find_spec", lambda name: name)
        monkeypatch.setattr(vision, "import_module", lambda name: None)

    return install


def pixels_of(model: str, **settings: Any) -> tuple[Any, Any]:
    """What the identity says of them."""
    identity = built(model, **settings).identity()
    return identity["image_processor"], identity["image_backend"]


def test_an_image_processor_is_in_the_identity(model_file: Callable[..., str]) -> None:
    model = model_file("llava")
    assert pixels_of(model, image_backend="pillow") == ("CLIPImageProcessorPil", "pillow")
    if not HERE:
        assert pixels_of(model) == pixels_of(model, image_backend="pillow")


def test_torchvision_that_comes_along_is_another_model(
    model_file: Callable[..., str], torchvision: Callable[[str], None]
) -> None:
    """Unless its user says that the run goes on with Pillow."""
    model = model_file("llava")
    before = dict(built(model, image_backend="pillow").identity())
    torchvision("0.28.1+cpu")
    assert pixels_of(model) == ("ThroughTorchvision", "torchvision 0.28")
    assert pixels_of(model) == pixels_of(model, image_backend="torchvision")
    assert dict(built(model, image_backend="pillow").identity()) == before
    # The setting only says how to get there.
    assert "image_backend" in built(model).neutral


def test_a_release_and_a_cpu_that_round_in_another_way(
    model_file: Callable[..., str],
    torchvision: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torchvision("0.29.0")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for capability, said in (("AVX512", "0.29"), ("DEFAULT", "0.29 float32")):
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda c=capability: c)
        assert pixels_of(model_file("llava"))[1] == f"torchvision {said}"


@pytest.mark.skipif(HERE, reason="torchvision is here")
def test_torchvision_that_is_wanted_and_not_here(model_file: Callable[..., str]) -> None:
    (error,) = built(model_file("llava"), image_backend="torchvision").lacks()
    assert isinstance(error, MissingExtra)
    assert error.what.startswith("image_backend: torchvision needs the package 'torchvision'")
    assert "pip install" in str(error.hint) and "image_backend=pillow" in str(error.hint)


def test_a_backend_that_the_family_has_not(
    model_file: Callable[..., str],
    torchvision: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torchvision("0.28.0")
    monkeypatch.setattr(
        transformers.AutoImageProcessor,
        "from_pretrained",
        lambda folder, **_: ThroughTorchvision.from_pretrained(folder),
    )
    with pytest.raises(ConfigError, match="ThroughTorchvision works with torchvision") as caught:
        _ = built(model_file("llava"), image_backend="pillow").opened
    assert "image_backend=auto" in str(caught.value.hint)


def test_a_torchvision_without_lanczos(
    model_file: Callable[..., str],
    torchvision: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """transformers would resize by another filter and say so in a log."""
    torchvision("0.26.0")
    monkeypatch.setattr(backends, "_lanczos_alone", lambda: ("ThroughTorchvision",))
    monkeypatch.setattr(
        transformers.AutoImageProcessor,
        "from_pretrained",
        lambda folder, backend=None, **_: (
            ThroughTorchvision if backend == "torchvision" else transformers.CLIPImageProcessorPil
        ).from_pretrained(folder),
    )
    assert pixels_of(model_file("llava"))[1] == "pillow"
    with pytest.raises(ConfigError, match=r"torchvision \(0.26.0\) has no Lanczos"):
        _ = built(model_file("llava"), image_backend="torchvision").opened


def test_a_model_in_memory_says_it_too(
    model_file: Callable[..., str], torchvision: Callable[[str], None]
) -> None:
    """Pillow's image processors write themselves down under torchvision's name."""
    adapter = built(model_file("llava"), image_backend="pillow")
    processor = adapter.opened.processor
    model = transformers.AutoModelForImageTextToText.from_pretrained(adapter.settings.checkpoint)

    def live(wanted: Backend = "auto") -> LiveTransformers:
        settings = HuggingFaceSettings(checkpoint="given", layout="plain", image_backend=wanted)
        return LiveTransformers(model, processor, settings)

    torchvision("0.28.0")
    pillow = live().identity()
    processor.image_processor = ThroughTorchvision.from_pretrained(adapter.settings.checkpoint)
    other = live().identity()
    assert (pillow["image_backend"], other["image_backend"]) == ("pillow", "torchvision 0.28")
    with pytest.raises(ConfigError, match="image_backend is pillow"):
        _ = live("pillow").opened


def test_prepared_images_of_another_release_are_not_taken(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = built(model_file("qwen2_5_vl"))
    before = adapter._kept_images(1.0).folder
    assert adapter._kept_images(2.0).folder == before
    monkeypatch.setattr("emu2eval.__version__", "99")
    assert adapter._kept_images(1.0).folder != before
