"""The model against the authors' numbers, part by part."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from PIL import Image

from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.model import Emu2, Rotary
from emu2eval.adapters.emu2.vision import MEAN, STD, normalised, pixels, pool
from emu2eval.adapters.local.cache import above, new_cache

from .conftest import Golden, close

IMAGE, FRAME, PAD = 32003, 32004, 32000


def test_the_state_dict_has_the_native_keys(golden: Golden) -> None:
    want = {k: tuple(v) for k, v in golden.meta["keys"].items() if "inv_freq" not in k}
    assert {k: tuple(v.shape) for k, v in golden.model.state_dict().items()} == want


def test_pixels(golden: Golden) -> None:
    made = [pixels(Image.fromarray(golden[f"pil{i}_uint8"].numpy()), 56) for i in range(3)]
    close(torch.stack(made), golden["pixels"])


def test_every_level_of_a_pixel_has_the_bits_of_the_plain_formula() -> None:
    levels = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    assert torch.equal(normalised(levels), (levels.float() / 255 - mean) / deviation)


def test_vision_block_by_block(golden: Golden) -> None:
    outputs: list[Any] = []
    hooks = [
        block.register_forward_hook(lambda _m, _i, out: outputs.append(out))
        for block in golden.model.visual.blocks
    ]
    visual = golden.model.visual(golden["pixels"])
    for hook in hooks:
        hook.remove()
    for i, output in enumerate(outputs):
        close(output, golden[f"block{i}"])
    close(visual, golden["visual"])
    for tokens in (1, 4, 16):
        close(pool(visual, tokens), golden[f"encode_image_q{tokens}"])


def test_images_and_bridges(golden: Golden) -> None:
    pooled = golden.model.encode_images(golden["pixels"])
    close(pooled, golden["encode_image_default"])
    up = golden.model.project_up(pooled)
    close(up, golden["project_up"])
    close(golden.model.project_down(up), golden["project_down"])


def test_left_padded_batch(golden: Golden) -> None:
    ids, valid = golden["batch_input_ids"], golden["batch_mask"].bool()
    features = golden.model.encode_images(golden["pixels"]).flatten(0, 1)
    embeds = golden.model.embed(ids, ids == IMAGE, features)
    close(embeds, golden["batch_embeds"])
    close(embeds, golden["batch_hidden0"])
    hidden = golden.model.read(embeds, valid)
    close(hidden[valid], golden["batch_hidden3"][valid])
    logits = golden.model.logits(hidden[:, -1])
    top = logits.gather(1, golden["batch_top_ids"])
    close(top, golden["batch_top_logits"])
    assert torch.equal(logits.topk(16).indices, golden["batch_top_ids"])


@pytest.mark.parametrize("name", ["interleaved", "video", "text_only"])
def test_prompts_of_the_base_form(golden: Golden, name: str) -> None:
    hidden = read_prompt(golden, name)
    close(hidden, golden[f"{name}_hidden"])
    check_top(golden, name, hidden)


@pytest.mark.parametrize("grounding", ["", "_grd"])
@pytest.mark.parametrize("name", ["chat1", "chat3", "chat_video"])
def test_prompts_of_the_chat_form(golden: Golden, name: str, grounding: str) -> None:
    check_top(golden, name + grounding, read_prompt(golden, name + grounding))


def read_prompt(golden: Golden, name: str) -> Any:
    ids = golden[f"{name}_input_ids"]
    order = {"interleaved": [0, 1, 2], "video": [2], "chat3": [0, 1], "chat1": [0]}
    images = order.get(name.removesuffix("_grd"), [])
    frames = [0, 1] if "video" in name else []
    model, pixel = golden.model, golden["pixels"]
    # Reading order: the two frames stand before the image, where there is one.
    parts = []
    if frames:
        parts.append(model.encode_images(pixel[frames], golden.config.v_query).flatten(0, 1))
    if images:
        parts.append(model.encode_images(pixel[images]).flatten(0, 1))
    features = torch.cat(parts) if parts else None
    embeds = model.embed(ids, (ids == IMAGE) | (ids == FRAME), features)
    return model.read(embeds)


def check_top(golden: Golden, name: str, hidden: Any) -> None:
    logits = golden.model.logits(hidden[:, -1])
    assert torch.equal(logits.topk(16).indices, golden[f"{name}_top_ids"])
    close(logits.topk(16).values, golden[f"{name}_top_logits"])


def test_reading_in_pieces_is_reading_at_once(base: Golden) -> None:
    ids = base["interleaved_input_ids"]
    features = base.model.encode_images(base["pixels"]).flatten(0, 1)
    embeds = base.model.embed(ids, ids == IMAGE, features)
    cache = new_cache(base.model.decoder.lm.config)
    base.model.read(embeds[:, :20], None, cache)
    cache = above(cache, 1, 20)
    pieces = [base.model.read(embeds[:, a:b], None, cache) for a, b in ((20, 40), (40, 41))]
    close(torch.cat(pieces, 1), base["interleaved_hidden"][:, 20:])


def test_rotary_angles_stay_fp32_when_the_module_is_cast() -> None:
    position = torch.arange(4096)[None]
    rotary = Rotary(128, 10000.0)
    frequency = 10000.0 ** -(torch.arange(0, 128, 2, dtype=torch.float64) / 128)
    angle = position[..., None].double() * frequency
    cosine, sine = rotary.to(torch.bfloat16)(torch.zeros(1, dtype=torch.bfloat16), position)
    assert cosine.dtype == torch.bfloat16
    # 2^-9 is the rounding of bf16 itself; frequencies cast to bf16 would be off by up to 2.
    assert (cosine[..., :64].double() - angle.cos()).abs().max() < 2**-8
    assert (sine[..., 64:].double() - angle.sin()).abs().max() < 2**-8


def test_a_cast_model_reads_beyond_2048_positions(base: Golden) -> None:
    torch.manual_seed(0)
    embeds = torch.randn(1, 2100, base.config.decoder.hidden_size)
    want = base.model.read(embeds)[0, -8:]
    half = Emu2(base.config)
    half.load_state_dict(base.model.state_dict())
    half.to(torch.bfloat16)
    with torch.inference_mode():
        got = half.read(embeds.bfloat16())[0, -8:].float()
    assert (got - want).norm() / want.norm() < 0.05


def test_close_words_of_a_bfloat16_model_do_not_tie(base: Golden) -> None:
    model = deepcopy(base.model).to(torch.bfloat16)
    random = torch.Generator().manual_seed(0)
    weight = model.decoder.lm.lm_head.weight
    hidden = torch.randn(2, 3, weight.shape[1], generator=random).bfloat16()
    hidden *= 32 / (hidden @ weight.t()).abs().amax()
    exact = hidden.double() @ weight.double().t()
    got, rounded = model.logits(hidden), model.decoder.lm.lm_head(hidden)
    assert got.dtype == torch.float32 and got.shape == exact.shape
    assert (got - exact).abs().max() < 1e-3 * (rounded - exact).abs().max()

    def distinct(scores: torch.Tensor) -> int:
        return min(len(set(row.topk(100).values.tolist())) for row in scores.flatten(0, 1))

    assert distinct(got) >= 99 > 60 > distinct(rounded)


@pytest.mark.parametrize(("variant", "vocabulary"), [("base", 32272), ("chat", 32274)])
def test_full_size_parameter_counts(variant: Any, vocabulary: int) -> None:
    with torch.device("meta"):
        model = Emu2(Emu2Config.official(variant))

    def count(module: Any) -> int:
        return sum(p.numel() for p in module.parameters())

    assert model.config.decoder.vocab_size == vocabulary
    assert count(model.visual) == 4_350_093_568
    assert count(model.decoder) == 32_532_564_480 + 2 * 6656 * (vocabulary - 32272)
    assert count(model.decoder.lm.model.layers[0]) == 535_049_216
    assert count(model.project_up) + count(model.project_down) == 23_855_104
    assert not list(model.buffers())
