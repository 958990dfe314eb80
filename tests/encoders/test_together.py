"""Encoders in batches of one fixed size: fewer passes, and the same bits in any company and at any place."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from emu2eval.encoders.together import ROWS, together  # noqa: E402


def test_a_pass_for_so_many_and_each_in_its_place() -> None:
    """Items of another shape go by themselves; places that are left hold what is there already."""
    passes: list[tuple[int, ...]] = []

    def run(pixels: Any, mask: Any) -> Any:
        passes.append(tuple(pixels.shape))
        return (pixels.sum((1, 2)) * mask)[:, None]

    items = [(torch.full((2, 3 + i % 2), float(i)), torch.tensor(1.0)) for i in range(2 * ROWS + 3)]
    found = together(items, run)
    assert found[:, 0].tolist() == [float(i * 2 * (3 + i % 2)) for i in range(len(items))]
    assert passes == [(ROWS, 2, 3)] * 2 + [(ROWS, 2, 4)] * 2


@pytest.mark.parametrize("threads", [1, 2])
def test_the_bits_do_not_depend_on_the_others(threads: int) -> None:
    """At a width at which products are cut into blocks: any limit, resume and order."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=384, intermediate_size=1536, num_hidden_layers=1, num_attention_heads=6,
        image_size=56, patch_size=14,
    )  # fmt: skip
    model = transformers.CLIPVisionModel(config).eval()

    def run(pixels: Any) -> Any:
        return model(pixel_values=pixels).pooler_output

    images = [(torch.randn(3, 56, 56),) for _ in range(11)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            whole = together(images, run)
            assert torch.equal(whole, together(images[::-1], run).flip(0))
            assert torch.equal(whole[:3], together(images[:3], run))
            assert torch.equal(whole[5:6], together(images[5:6], run))
    finally:
        torch.set_num_threads(before)
