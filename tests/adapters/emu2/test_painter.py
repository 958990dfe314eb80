"""The visual decoder against the authors' code at tiny size, and what a seed decides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from PIL import Image

from emu2eval.adapters.emu2.painter import Painter
from emu2eval.errors import ModelError, PlanError

from .golden_weights import fill

GOLDEN = Path(__file__).parent / "golden"
META = json.loads((GOLDEN / "meta.json").read_text())["gen"]
# diffusers' own, about numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CASES = ["t2i", "edit", "autoenc", "img_gen_mode"]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "gen.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def painter() -> Painter:
    unet = UNet2DConditionModel.from_config(META["unet"])
    vae = AutoencoderKL.from_config(META["vae"])
    fill(unet, META["weight_seed"], "unet.")
    fill(vae, META["weight_seed"], "vae.")
    return Painter(unet, vae, EulerDiscreteScheduler.from_config(META["scheduler"]))


def conditions(seed: int = 0, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(count + 1, 4, 32, generator=torch.Generator().manual_seed(seed))
    return drawn[1:], drawn[:1]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("guidance", [3, 1])
def test_golden(
    painter: Painter, arrays: dict[str, np.ndarray], case: str, guidance: int, monkeypatch
) -> None:
    known = {
        name.partition("/")[2]: array
        for name, array in arrays.items()
        if name.startswith(f"{case}_cfg{guidance}/")
    }
    calls = []
    forward = painter.unet.forward

    def record(sample, time, **rest):
        out = forward(sample, time, **rest)
        calls.append((sample, time, rest, out[0]))
        return out

    monkeypatch.setattr(painter.unet, "forward", record)
    given = torch.from_numpy(known["cond"])
    cond, uncond = given[:1], given[-1:]
    steps = 4 if guidance > 1 else 3
    noise = torch.from_numpy(known["init_noise_unit"])
    height, width = known["image_uint8"].shape[:2]
    latents = painter.latents(cond, uncond, [0], width, height, steps, guidance, noise)

    sample, time, rest, out = calls[0]
    assert len(calls) == steps
    assert float(time) == float(known["u0_t"])
    close(sample, known["u0_sample"], 2e-5)
    close(rest["encoder_hidden_states"], known["cond"], 0)
    close(rest["added_cond_kwargs"]["text_embeds"], known["text_embeds"], 1e-6)
    assert rest["added_cond_kwargs"]["time_ids"].flatten().tolist() == known["time_ids"].tolist()
    close(out, known["u0_out"], 2e-5)
    close(latents, known["final_latents"], 2e-4)
    decoded = painter._decode_one(latents).permute(1, 2, 0)[None]
    close(decoded, known["decoded"], 2e-4)
    image = painter.decode(latents)[0]
    difference = np.abs(np.asarray(image).astype(int) - known["image_uint8"].astype(int))
    assert difference.max() <= 1


def test_schedule_of_50_steps(arrays: dict[str, np.ndarray]) -> None:
    scheduler = EulerDiscreteScheduler.from_config(META["scheduler"])
    scheduler.set_timesteps(50)
    close(scheduler.timesteps, arrays["sched50_timesteps"], 0)
    close(scheduler.sigmas, arrays["sched50_sigmas"], 1e-6)
    close(scheduler.init_noise_sigma, arrays["sched50_init_noise_sigma"], 1e-6)


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_a_seed_alone_decides_the_image(painter: Painter, scheduler: type) -> None:
    painter = Painter(painter.unet, painter.vae, scheduler.from_config(META["scheduler"]))
    cond, uncond = conditions()
    seeds = [5, 6, 7, 5]
    alone = [
        painter.latents(cond[i : i + 1], uncond, seeds[i : i + 1], 64, 64, 3) for i in range(4)
    ]
    by_two = [painter.latents(cond[i : i + 2], uncond, seeds[i : i + 2], 64, 64, 3) for i in (0, 2)]
    by_four = painter.latents(cond, uncond, seeds, 64, 64, 3)
    torch.testing.assert_close(torch.cat(alone), by_four, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(torch.cat(by_two), by_four, atol=2e-4, rtol=2e-4)
    for one, of_four in zip(alone, painter.decode(by_four), strict=True):
        difference = np.asarray(painter.decode(one)[0]).astype(int) - np.asarray(of_four)
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_images_are_drawn_together_to_the_bits_that_they_have_alone(
    painter: Painter, guidance: float
) -> None:
    cond, uncond = conditions(count=3)
    step = painter.together(64, 64, cond.shape[1], guidance > 1)
    alone = [
        painter.latents(cond[i : i + 1], uncond, [i], 64, 64, 2, guidance)[0] for i in range(3)
    ]
    by_step = [
        painter.latents(
            cond[at : at + step], uncond, [*range(3)][at : at + step], 64, 64, 2, guidance
        )
        for at in range(0, 3, step)
    ]
    assert torch.equal(torch.cat(by_step), torch.stack(alone))


def test_a_device_whose_kernels_change_with_the_batch_draws_one_by_one(
    painter: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to where they do; and so do images as large as those of the published model."""
    forward, passes = painter.unet.forward, []

    def changing(sample: torch.Tensor, *rest: object, **more: object) -> tuple[torch.Tensor]:
        passes.append(len(sample))
        (out,) = forward(sample, *rest, **more)
        return (out + 1e-6 * (len(sample) > 2 * 2),)

    monkeypatch.setattr(painter.unet, "forward", changing)
    monkeypatch.setattr(painter, "_groups", {})
    assert painter.together(64, 64, 4, True) <= 2
    tried = len(passes)
    assert painter.together(64, 64, 4, True) <= 2 and len(passes) == tried
    assert painter.together(1024, 1024, 4, True) == 1 and len(passes) == tried


def test_the_same_noise_at_every_place(painter: Painter) -> None:
    cond, uncond = conditions()
    same = cond[:1].expand(3, -1, -1)
    first, second, other = painter.paint(same, uncond, [1, 1, 2], 64, 64, 2)
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != other.tobytes()


def test_global_random_state_is_neither_read_nor_moved(painter: Painter) -> None:
    cond, uncond = conditions(count=1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = painter.latents(cond, uncond, [3], 64, 64, 2)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, painter.latents(cond, uncond, [3], 64, 64, 2))


def test_without_guidance_the_unconditional_half_is_never_run(painter: Painter) -> None:
    cond, uncond = conditions(count=1)
    plain = painter.latents(cond, uncond, [3], 64, 64, 2, guidance=1)
    assert torch.equal(plain, painter.latents(cond, uncond * 9, [3], 64, 64, 2, guidance=1))
    assert not torch.allclose(plain, painter.latents(cond, uncond, [3], 64, 64, 2, guidance=2))


def test_other_sizes_and_schedulers(painter: Painter) -> None:
    cond, uncond = conditions(count=1)
    other = Painter(painter.unet, painter.vae, DDIMScheduler.from_config(META["scheduler"]))
    image = other.paint(cond, uncond, [0], 72, 40, 2)[0]
    assert image.size == (72, 40)
    assert painter.size == (128, 128)
    assert painter.paint(cond, uncond, [0], steps=1)[0].size == (128, 128)


def test_bfloat16(painter: Painter) -> None:
    unet = UNet2DConditionModel.from_config(META["unet"]).bfloat16()
    vae = AutoencoderKL.from_config(META["vae"]).bfloat16()
    unet.load_state_dict(painter.unet.state_dict())
    vae.load_state_dict(painter.vae.state_dict())
    low = Painter(unet, vae, painter.scheduler)
    cond, uncond = conditions(count=1)
    rough = low.latents(cond, uncond, [0], 64, 64, 3)
    exact = painter.latents(cond, uncond, [0], 64, 64, 3)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.05 * exact.abs().mean()
    assert low.decode(rough)[0].size == (64, 64)


def test_flagged_images_are_black_and_say_so(painter: Painter) -> None:
    class Second:
        seen = 0

        def flagged(self, images: list[Image.Image]) -> list[bool]:
            self.seen += len(images)
            return [self.seen == 2 for _ in images]

    checked = Painter(painter.unet, painter.vae, painter.scheduler, Second())
    cond, uncond = conditions(count=2)
    first, second = checked.paint(cond, uncond, [0, 1], 64, 64, 1)
    assert "flagged" not in first.info
    assert second.info["flagged"] and not np.asarray(second).any()
    assert checked.describe()["safety_checker"] is True
    assert painter.describe()["safety_checker"] is False


@pytest.mark.parametrize("size", [(60, 64), (64, 0), (64, 4)])
def test_sizes_that_do_not_fit_the_latents(painter: Painter, size: tuple[int, int]) -> None:
    cond, uncond = conditions(count=1)
    if 0 in size:
        size = (64, -8)
    with pytest.raises(PlanError, match="multiples of 8 pixels"):
        painter.paint(cond, uncond, [0], *size, 1)


def test_no_steps(painter: Painter) -> None:
    with pytest.raises(PlanError, match="at least 1 step"):
        painter.paint(*conditions(count=1), [0], 64, 64, 0)


def test_conditions_of_the_wrong_shape(painter: Painter) -> None:
    cond, uncond = conditions(count=2)
    with pytest.raises(ValueError, match="cond is"):
        painter.paint(cond, uncond, [0], 64, 64, 1)
    with pytest.raises(ValueError, match="uncond is"):
        painter.paint(cond, uncond[:, :2], [0, 1], 64, 64, 1)


def test_float16_is_refused(painter: Painter) -> None:
    vae = AutoencoderKL.from_config(META["vae"]).half()
    with pytest.raises(ModelError, match="float16") as caught:
        Painter(painter.unet, vae, painter.scheduler)
    assert "bfloat16" in str(caught.value)


def close(ours: torch.Tensor, theirs: np.ndarray, tolerance: float) -> None:
    """Within a tolerance relative to the largest value."""
    theirs = np.asarray(theirs)
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * max(1.0, float(np.abs(theirs).max()))
