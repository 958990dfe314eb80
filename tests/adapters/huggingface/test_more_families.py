"""Further families through the adapter, what their images cost and what the model sees of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from emu2eval.types import Prompt

from .prompts import (
    built,
    image,
    plain_inputs,
    request,
)

FAMILIES = [
    "idefics",
    "idefics2",
    "internvl",
    "kosmos2",
    "llava_onevision",
    "pixtral",
    "qwen3_vl",
    "smolvlm",
]


@pytest.fixture(params=FAMILIES)
def further(request: pytest.FixtureRequest) -> str:
    return str(request.param)


SIZES = [(64, 48), (200, 40), (30, 90)]


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("qwen3_vl", {"size": {"shortest_edge": 64, "longest_edge": 512}}, 8),
        ("qwen2_5_vl", {"size": {"shortest_edge": 64, "longest_edge": 512}}, 8),
        ("pixtral", {"size": {"longest_edge": 32}}, 16),
        ("internvl", {"crop_to_patches": False}, 4),
        ("idefics2", {"do_image_splitting": True}, 20),
        ("llava_onevision", {}, 17),
    ],
)
def test_the_planned_cost_follows_the_image_options(
    model_file: Callable[..., str], name: str, options: dict[str, Any], most: int
) -> None:
    """Planned from sizes alone, it is what the processor makes with the option, and what the encoder
    fills; `most` is what the option allows for an image."""
    adapter = built(model_file(name, image_options=options))
    usual = built(model_file(name))
    adapter.load()
    if name == "idefics2":
        # Its processor writes its text by what its image half is set to, whatever a call says.
        adapter.opened.processor.image_processor.do_image_splitting = True
    for number, size in enumerate(SIZES):
        shown = (image(number, size), "what? "), (image(9), "and? Answer:")
        asked = Prompt(query=(*shown[0], *shown[1]))
        encoded = adapter.opened.form.encode(asked)
        assert max(one.tokens for one in encoded.shown) <= most
        real = plain_inputs(adapter, asked, options)["input_ids"][0].tolist()
        assert list(encoded.ids) == real
        (response,) = adapter.answer([request(asked)])
        assert response.error is None and response.tokens_in == len(real)
        if options:
            assert adapter.positions(request(asked)) != usual.positions(request(asked))


def test_qwens_older_names_for_the_size_of_a_image(model_file: Callable[..., str]) -> None:
    asked = request(Prompt(query=(image(1, (120, 80)), "what?")))
    small, least = {"min_pixels": 64, "max_pixels": 512}, {"shortest_edge": 64}
    named = built(model_file("qwen3_vl", image_options=small))
    sized = built(model_file("qwen3_vl", image_options={"size": {**least, "longest_edge": 512}}))
    half = built(model_file("qwen3_vl", image_options={"max_pixels": 512}))
    usual = built(model_file("qwen3_vl"))
    assert named.positions(asked) == sized.positions(asked) == half.positions(asked)
    assert named.positions(asked) < usual.positions(asked)


def test_what_the_model_itself_sees_of_a_image(
    model_file: Callable[..., str], further: str
) -> None:
    """The optional hook for choosing demonstrations by likeness: each vector from its image alone."""
    adapter = built(model_file(further))
    adapter.load()
    shown = [image(1), image(2, (32, 100)), image(1)]
    found = adapter.encode_images(shown)
    assert found.shape[0] == 3 and found.dtype.name == "float32"
    assert (found[0] == found[2]).all() and abs(found[0] - found[1]).max() > 1e-3
    (alone,) = adapter.encode_images(shown[1:2])
    assert alone == pytest.approx(found[1], abs=1e-6)
