"""What is found out about a checkpoint before it is asked anything: one paragraph, and no answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PILImage
from transformers import LlavaProcessor

from emu2eval.errors import ModelError
from emu2eval.media import images
from emu2eval.types import Prompt

from .prompts import CHOICES, QUESTION, built, image, request

Saved = Callable[[str], Path]
ModelFile = Callable[..., str]


@pytest.fixture
def edited(saved: Saved, tmp_path: Path) -> Callable[..., str]:
    """A copy of a family's folder in which some of a JSON file's keys have another value."""

    def make(family: str, file: str, **values: Any) -> str:
        folder = tmp_path / "edited"
        shutil.copytree(saved(family), folder)
        path = folder / file
        spec = json.loads(path.read_text())
        own = spec.pop("image_processor", {})
        images = {key: values.pop(key) for key in values.keys() & own.keys()}
        spec.update(values)
        path.write_text(json.dumps({**spec, "image_processor": {**own, **images}} if own else spec))
        return str(folder)

    return make


def more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that does more in its call than in its parts, as PaliGemma's does."""
    own = LlavaProcessor.__call__

    def call(self: Any, *given: Any, text: list[str], **named: Any) -> Any:
        return own(self, *given, text=[f"{each}\n" for each in text], **named)

    monkeypatch.setattr(LlavaProcessor, "__call__", call)


def test_a_prompt_is_what_the_processors_own_call_makes_of_it(
    model_file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told without weights, with both sides."""
    adapter = built(model_file("llava"))
    assert adapter.lacks() == []
    more(monkeypatch)
    adapter = built(model_file("llava"))
    (error,) = adapter.lacks()
    assert isinstance(error, ModelError) and "tokens by LlavaProcessor" in error.what
    assert "'Ċ'" in error.what.partition(" there, ")[0] and "no more here" in error.what
    monkeypatch.setattr(adapter, "_check_weights", lambda: pytest.fail("too late"))
    with pytest.raises(ModelError, match="the first difference"):
        adapter.load()


def test_a_processor_that_does_not_take_two_images(
    model_file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = LlavaProcessor.__call__

    def call(self: Any, images: Any, **named: Any) -> Any:
        if len(images[0]) > 1:
            raise ValueError("one image only\nand more")
        return own(self, images=images, **named)

    monkeypatch.setattr(LlavaProcessor, "__call__", call)
    (error,) = built(model_file("llava")).lacks()
    assert "with 2 images (ValueError: one image only)" in error.what
    assert "images=1" in str(error.hint)
    assert built(model_file("llava", images=1)).lacks() == []


@pytest.mark.parametrize("patch,places", [(16, 4), (4, 64)])
def test_as_many_features_as_places(
    model_file: ModelFile, edited: Callable[..., str], patch: int, places: int
) -> None:
    """A processor of another patch than its model: places that stay empty, features that are cut."""
    folder = edited("llava", "processor_config.json", patch_size=patch)
    with pytest.raises(ModelError) as caught:
        built(model_file("llava", checkpoint=folder)).load()
    what = caught.value.what
    assert "16 embeddings" in what and f"{places} placeholders (processor_config.json)" in what
    assert "config.json)" in what and caught.value.where == folder


def test_a_token_that_the_processor_never_writes(
    model_file: ModelFile, edited: Callable[..., str]
) -> None:
    """The model would see no image, and answer."""
    folder = edited("llava", "config.json", image_token_index=7)
    (error,) = built(model_file("llava", checkpoint=folder)).lacks()
    assert "(7) as the image placeholder" in error.what
    assert "'<image>' (3) 16 times (processor_config.json" in error.what


def test_what_a_model_class_raises_is_told(
    model_file: ModelFile, edited: Callable[..., str], make_task: Callable[..., Path], program: Any
) -> None:
    size = {"crop_size": {"height": 64, "width": 64}, "size": {"shortest_edge": 64}}
    folder = edited("llava", "processor_config.json", **size)
    model = model_file("llava", checkpoint=folder)
    code, _, err = program("run", "--task", str(make_task(queries=2, pool=2)), "--model", model)
    told = " ".join(err.split())
    assert code == 2 and "Traceback" not in err
    assert "LlavaForConditionalGeneration fails on an image (ValueError" in told
    assert "processor_config.json" in told


@pytest.mark.parametrize("fault", ["raises", "fewer", "more"])
@pytest.mark.parametrize("reuse", [True, False])
def test_an_image_that_the_encoder_refuses_costs_its_own_request(
    model_file: ModelFile, fault: str, reuse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its batch is encoded together: the others' answers are those of each alone."""
    adapter = built(model_file("llava", reuse=reuse, batch=4))
    adapter.load()
    assert adapter._inference is not None
    encoder = adapter._inference.reader.encoder
    own = encoder._encode

    def encode(pixel_values: torch.Tensor, **named: Any) -> Any:
        out = own(pixel_values=pixel_values, **named)
        if not (pixel_values == pixel_values[:, :, :1, :1]).flatten(1).all(1).any():
            return out
        # One that has the same colour everywhere is among them.
        if fault == "raises":
            raise RuntimeError("the grid has no columns\nand more")
        size = 17 if fault == "more" else 15
        out.pooler_output = [torch.cat([part, part])[:size] for part in out.pooler_output]
        return out

    black = images.from_pil(PILImage.new("RGB", (40, 40)))
    fine = [request(Prompt(query=(image(i), QUESTION))) for i in (1, 2)]
    wanted = [adapter.answer([one])[0].text for one in fine]
    adapter._inference.reader.encoder.kept = type(encoder.kept)(encoder.kept.max_bytes)
    encoder._encode = encode
    odd = request(Prompt(query=(black, QUESTION)))
    first, refused, second = adapter.answer([fine[0], odd, fine[1]])
    assert [first.text, second.text] == wanted and not first.error and not second.error
    said = str(refused.error)
    if fault == "raises":
        assert "cannot process this image of 40 x 40 pixels (the grid has no columns)" in said
    else:
        assert (
            f"produces {17 if fault == 'more' else 15} embeddings" in said
            and "16 placeholders" in said
        )
    (ranked,) = adapter.answer([request(Prompt(query=(black, QUESTION)), CHOICES)])
    assert ranked.error == refused.error
