"""Stages 5 and 6: the visual decoder, an autoencoder and a UNet that paints from visual embeddings.

`python painter.py --state DIR` trains both, or goes on where it was left; needs the vision stage.
The language model answers "a red circle" with the mean of all such images' embeddings, for nothing
in the words says where and how large. So the UNet is trained on such means too.
"""

from __future__ import annotations

import argparse
import fcntl
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import vae as autoencoder
from build import config
from loop import Stage, Workspace, run
from material import Material, batch, kinds, material, statistics
from scenes import SIZE, drawn, joined, published
from torch import Tensor, nn

from emu2eval.adapters.emu2.model import Emu2

PAINT = Stage("painter", 9000, 1.2e-3, 2e-5, warmup=100, look=500)
DRAWN, SEED = 30_000, 5
AVERAGE = 0.998
TIMES = 1000


def build(latents: int = 8, width: int = 64) -> Any:
    """A small UNet2DConditionModel (2.4 million parameters) with the inputs of SDXL's, untrained.

    The mean embedding scales and shifts every block beside the time; the embeddings themselves are
    attended to at 4 x 4. width: of the embeddings.
    """
    from diffusers import UNet2DConditionModel

    sizes = 8
    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        in_channels=latents,
        out_channels=latents,
        block_out_channels=(48, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(2, 3),
        cross_attention_dim=width,
        addition_embed_type="text_time",
        addition_time_embed_dim=sizes,
        projection_class_embeddings_input_dim=width + 6 * sizes,
        norm_num_groups=16,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
    )


def scheduler() -> Any:
    """DDIM (arXiv 2010.02502) on a network that predicts the clean latents, which a small one does best."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TIMES,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        timestep_spacing="trailing",
        clip_sample=False,
    )


class Averaged(nn.Module):
    """The UNet and a running average of its weights, which is what is kept."""

    def __init__(self, unet: Any):
        super().__init__()
        self.unet = unet
        self.average = deepcopy(unet).requires_grad_(False)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Takes the latest weights into the average."""
        share = min(AVERAGE, (step + 1) / (step + 10))
        for kept, new in zip(self.average.parameters(), self.unet.parameters(), strict=True):
            kept.lerp_(new, 1 - share)


def train(unet: Any, known: Material, check: Material, stage: Stage, work: Workspace) -> Any:
    """Trains the UNet and returns its average. check: images of the validation part."""
    module = Averaged(unet)
    alphas = scheduler().alphas_cumprod
    same = kinds(known)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        module.follow(step)
        places, cond = batch(known, same, generator)
        times = torch.randint(TIMES, (len(places),), generator=generator)
        value, _ = _off(unet, alphas, known.latents[places], cond, times, generator)
        return value, {"loss": value.item()}

    def look(step: int) -> Mapping[str, float]:
        generator = torch.Generator().manual_seed(0)
        times = torch.linspace(TIMES - 1, 0, len(check)).long()
        _, off = _off(module.average, alphas, check.latents, check.features, times, generator)
        # The noisiest quarter shows how much of an image comes from its embeddings alone.
        return {"check": off.mean().item(), "check_noisy": off[: len(off) // 4].mean().item()}

    run(stage, module, loss, work, look)
    return module.average


def _off(
    unet: Any,
    alphas: Tensor,
    clean: Tensor,
    cond: Tensor,
    times: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The loss, and each image's squared error (N,): of the clean latents told from noisy ones."""
    alpha = alphas[times].view(-1, 1, 1, 1)
    noise = torch.randn(clean.shape, generator=generator)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    added = {"text_embeds": cond.mean(1), "time_ids": time_ids(len(cond))}
    told = unet(noisy, times, encoder_hidden_states=cond, added_cond_kwargs=added).sample
    off = (told - clean).square().mean((1, 2, 3))
    # Little noise counts for more, up to a limit, or edges are left to chance (arXiv 2303.09556).
    weight = 1 + (alpha / (1 - alpha)).clamp(max=4).flatten()
    return (weight * off).mean(), off


def time_ids(count: int) -> Tensor:
    """SDXL's size conditioning as the adapter fills it in."""
    return torch.tensor([[1024.0, 1024.0, 0.0, 0.0, SIZE, SIZE]]).expand(count, -1)


def folded(unet: Any, mean: Tensor, scale: Tensor) -> Any:
    """A copy that takes raw embeddings where `unet` takes (raw - mean) / scale; else the same."""
    made = deepcopy(unet)
    width = len(mean)
    with torch.no_grad():
        first = made.add_embedding.linear_1
        first.weight[:, :width] /= scale
        first.bias -= first.weight[:, :width] @ mean
        for name, module in made.named_modules():
            if name.endswith(".attn2"):
                module.to_k.weight /= scale  # a constant added to all keys changes no attention
                module.to_v.weight /= scale
                # Attention adds up to 1, so what is constant in the values comes out as it went in.
                module.to_out[0].bias -= module.to_out[0].weight @ (module.to_v.weight @ mean)
    return made


def paint(model: Emu2, work: Workspace, out: Path, *, short: bool = False) -> None:
    """Both stages; writes vae/, unet/ and scheduler/ into `out` for the embeddings of model's tower."""

    def brief(stage: Stage) -> Stage:
        return replace(stage, steps=2, look=2) if short else stage

    torch.manual_seed(work.seed)
    real, check = published(False), published(True)
    if short:
        real, check = (scenes.take(torch.arange(16)) for scenes in (real, check))
    made = work.once("painter-drawn", lambda: drawn(64 if short else DRAWN, SEED))
    vae = autoencoder.build()
    stages = (brief(autoencoder.CROPS), brief(autoencoder.WHOLE))
    autoencoder.train(vae, real, made, check, work, *stages)
    mean, scale = statistics(model, real)
    known = work.once(
        "painter-material",
        lambda: material(model, vae, joined(real, made), len(real), mean, scale),
    )
    checked = material(model, vae, check, len(check), mean, scale)
    average = train(build(), known, checked, brief(PAINT), work)
    for name, part in (
        ("vae", vae.half()),
        ("unet", folded(average, mean, scale).half()),
        ("scheduler", scheduler()),
    ):
        part.save_pretrained(out / name)


def trained_tower(work: Workspace) -> Emu2:
    """A model whose vision tower is that of the finished vision stage; the rest is untrained."""
    model = Emu2(config(64)).eval().requires_grad_(False)
    model.visual.load_state_dict(torch.load(work.state("tower"), weights_only=True))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the training's state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="a few steps, to try that it runs")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    work = Workspace(options.state, options.seed)
    with (work.folder / "painter.lock").open("w") as lock:
        # One that a killed start left behind is waited for; what it has done need not be done again.
        fcntl.flock(lock, fcntl.LOCK_EX)
        paint(trained_tower(work), work, work.folder / "painter", short=options.short)


if __name__ == "__main__":
    main()
