"""The visual decoder of Emu2-Gen: visual embeddings in, images out (arXiv 2312.13286, section 2.3).

A latent diffusion UNet of SDXL's shape that is conditioned on N visual embeddings instead of a text:
they are its `encoder_hidden_states` as they are, and their mean is its pooled embedding.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import takewhile
from typing import Any, Protocol

import torch
from PIL import Image
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from emu2eval.adapters.local.devices import exact_convolutions
from emu2eval.adapters.local.finite import check_values
from emu2eval.errors import ModelError, PlanError

STEPS = 50
GUIDANCE = 3.0
ORIGINAL_SIZE = (1024, 1024)
"""Height and width of the "original" in SDXL's size conditioning; the authors' code never varies it."""
CROP = (0, 0)


LATENTS = 128 * 128
"""Latents of images that are denoised together, at most: those of one image of 1024 x 1024."""
TOGETHER = 4
"""Images that are denoised together, at most: beyond it little is gained, and kernels begin to change."""


class Checker(Protocol):
    """Says which images must not be shown; `safety.SafetyChecker` is one."""

    def flagged(self, images: Sequence[Image.Image]) -> list[bool]: ...


class Painter:
    """UNet, VAE and scheduler as one function from visual embeddings to images.

    unet, vae: diffusers' UNet2DConditionModel and AutoencoderKL, float32 or bfloat16.
    scheduler: any of diffusers' that denoises with `step`; it is copied for every use.
    checker: None = images are returned unchecked.
    Raises ModelError for float16.
    """

    def __init__(self, unet: Any, vae: Any, scheduler: Any, checker: Checker | None = None):
        refuse_half(unet.dtype)
        refuse_half(vae.dtype)
        self.unet = unet.eval().requires_grad_(False)
        self.vae = vae.eval().requires_grad_(False)
        self.scheduler = scheduler
        self.checker = checker
        self._groups: dict[tuple[int, ...], int] = {}

    @property
    def device(self) -> torch.device:
        device: torch.device = self.unet.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def factor(self) -> int:
        """Pixels per latent along a side: 8 for the VAE of SDXL."""
        return vae_factor(self.vae.config)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels that the UNet was made for."""
        sample = self.unet.config.sample_size
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return width * self.factor, height * self.factor

    def describe(self) -> Mapping[str, Any]:
        """What decides an image beside its request: part of the model's identity."""
        return {
            "scheduler": type(self.scheduler).__name__,
            "safety_checker": self.checker is not None,
            "steps": STEPS,
            "guidance": GUIDANCE,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def together(self, width: int | None, height: int | None, places: int, guided: bool) -> int:
        """How many images of that size are denoised at a time, each to the bits that it has alone.

        places: of an image's condition. Tried, not told by names: which kernel a CPU takes for a batch is its
        own affair. Those of GPUs differ: see `at_most`.
        """
        wide, high = width or self.size[0], height or self.size[1]
        most = min(TOGETHER, LATENTS * self.factor**2 // (wide * high))
        if self.device.type != "cpu" or most < 2:
            return 1
        case = (wide, high, places, int(guided), most, torch.get_num_threads())
        if case not in self._groups:
            self._groups[case] = self._alike(wide, high, places, guided, most)
        return self._groups[case]

    def at_most(self, width: int | None, height: int | None) -> int:
        """How many images of that size a GPU denoises at a time: four of 1024 x 1024, or as many latents."""
        wide, high = width or self.size[0], height or self.size[1]
        return max(1, min(TOGETHER, TOGETHER * LATENTS * self.factor**2 // (wide * high)))

    def _alike(self, width: int, height: int, places: int, guided: bool, most: int) -> int:
        """Up to how many images that are drawn together are those drawn alone."""
        shape = (most + 1, places, self.unet.config.cross_attention_dim)
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        cond, uncond, guidance = drawn[1:], drawn[:1], GUIDANCE if guided else 1.0
        seeds = [*range(most)]

        def tried(some: slice) -> torch.Tensor:
            return self.latents(cond[some], uncond, seeds[some], width, height, 2, guidance)

        alone = torch.cat([tried(slice(i, i + 1)) for i in seeds])
        numbers = takewhile(lambda n: torch.equal(tried(slice(n)), alone[:n]), range(2, most + 1))
        return max(numbers, default=1)

    def paint(
        self,
        cond: torch.Tensor,
        uncond: torch.Tensor,
        seeds: Sequence[int],
        width: int | None = None,
        height: int | None = None,
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        noise: torch.Tensor | None = None,
    ) -> list[Image.Image]:
        """cond (B, N, C), uncond (1 or B, N, C), one seed a request -> B images.

        A flagged image is black and carries `info["flagged"] = True`. See `latents` for the rest.
        """
        latents = self.latents(cond, uncond, seeds, width, height, steps, guidance, noise)
        images = self.decode(latents)
        if self.checker is None:
            return images
        return [
            _black(image) if flagged else image
            # One by one, so that what is told of an image is its own.
            for image in images
            for flagged in self.checker.flagged([image])
        ]

    @torch.inference_mode()
    @exact_convolutions()
    def latents(
        self,
        cond: torch.Tensor,
        uncond: torch.Tensor,
        seeds: Sequence[int],
        width: int | None = None,
        height: int | None = None,
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The denoised latents (B, 4, height / factor, width / factor), in the UNet's dtype.

        guidance <= 1 runs without classifier-free guidance. noise: standard normal, in place of the
        seeds' own. Raises PlanError for a size that is no multiple of the factor, or no step.
        """
        width, height = width or self.size[0], height or self.size[1]
        check_size(width, height, self.factor)
        if steps < 1:
            raise PlanError(f"an image needs at least 1 step, not {steps}")
        self._check_conditions(cond, uncond, seeds)
        guided = guidance > 1
        count = len(seeds)
        halves = cond.to(self.device, self.dtype)
        if guided:
            # Image by image, the conditional half first, opposite to diffusers' own pipelines.
            without = uncond.to(self.device, self.dtype).expand(count, -1, -1)
            halves = torch.stack([halves, without], 1).flatten(0, 1)
        time_ids = torch.tensor([[*ORIGINAL_SIZE, *CROP, height, width]], device=self.device)
        added = {
            "text_embeds": halves.mean(dim=1),
            "time_ids": time_ids.expand(len(halves), -1),
        }
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        if noise is None:
            noise = self._noise(generators, width, height)
        # Schedulers count their steps, so that every call needs its own.
        scheduler = deepcopy(self.scheduler)
        scheduler.set_timesteps(steps, device=self.device)
        scale_input = getattr(scheduler, "scale_model_input", lambda sample, _: sample)
        step_options = _step_options(scheduler, generators)
        sample = noise.to(self.device, self.dtype) * getattr(scheduler, "init_noise_sigma", 1.0)
        for time in scheduler.timesteps:
            both = sample.repeat_interleave(2, 0) if guided else sample
            with ByImage(len(halves) // count):
                predicted = self.unet(
                    scale_input(both, time),
                    time,
                    encoder_hidden_states=halves,
                    added_cond_kwargs=added,
                    return_dict=False,
                )[0]
            if guided:
                with_cond, without = predicted.unflatten(0, (count, 2)).unbind(1)
                predicted = without + guidance * (with_cond - without)
            sample = scheduler.step(predicted, time, sample, return_dict=False, **step_options)[0]
        return sample

    @torch.inference_mode()
    @exact_convolutions()
    def decode(self, latents: torch.Tensor) -> list[Image.Image]:
        """Latents (B, 4, h, w) -> B images; one at a time, so that memory does not grow with B."""
        return [_to_image(self._decode_one(latent[None])) for latent in latents]

    def _decode_one(self, latent: torch.Tensor) -> torch.Tensor:
        """(1, 4, h, w) -> pixels (3, H, W) in 0..1, float32 on the CPU."""
        scaled = latent.to(self.vae.device, self.vae.dtype) / self.vae.config.scaling_factor
        pixels: torch.Tensor = self.vae.decode(scaled, return_dict=False)[0][0]
        check_values(pixels, "the pixels of the image")
        return (pixels.float() / 2 + 0.5).clamp(0, 1).cpu()

    def _noise(
        self, generators: Sequence[torch.Generator], width: int, height: int
    ) -> torch.Tensor:
        # On the CPU, in float32 and one request at a time: the same seed starts from the same noise on
        # every device, in every dtype and at every place of every batch.
        shape = (self.unet.config.in_channels, height // self.factor, width // self.factor)
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    def _check_conditions(
        self, cond: torch.Tensor, uncond: torch.Tensor, seeds: Sequence[int]
    ) -> None:
        wanted = self.unet.config.cross_attention_dim
        if cond.ndim != 3 or cond.shape[2] != wanted or cond.shape[0] != len(seeds):
            raise ValueError(
                f"cond is {tuple(cond.shape)}; with {len(seeds)} seeds it must be ({len(seeds)}, N, {wanted})"
            )
        if uncond.shape[0] not in (1, len(seeds)) or uncond.shape[1:] != cond.shape[1:]:
            raise ValueError(
                f"uncond is {tuple(uncond.shape)}; it must be (1, …) or like cond {tuple(cond.shape)}"
            )


class ByImage(TorchFunctionMode):
    """Products of vectors with a matrix are computed for those of an image at a time. rows: of an image.

    How they are summed depends on how many there are, also where convolutions are the same for any batch.
    """

    def __init__(self, rows: int):
        super().__init__()
        self.rows = rows

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.linear and args[0].ndim == 2 and len(args[0]) > self.rows:
            return torch.cat([func(some, *args[1:]) for some in args[0].split(self.rows)])
        return func(*args, **(kwargs or {}))


def check_size(width: int, height: int, factor: int) -> None:
    """Raises PlanError unless both sides are positive multiples of `factor` pixels."""
    if width < factor or height < factor or width % factor or height % factor:
        raise PlanError(
            f"an image of {width} x {height} cannot be generated: "
            f"both sides must be multiples of {factor} pixels",
            hint="the model was trained at its default size; omit width and height",
        )


def refuse_half(dtype: torch.dtype) -> None:
    """Raises ModelError for float16."""
    if dtype == torch.float16:
        raise ModelError(
            "the visual decoder does not run in float16: "
            "SDXL's VAE overflows there and all images turn black",
            hint="use dtype: bfloat16 (or float32 on a CPU)",
        )


def vae_factor(config: Mapping[str, Any]) -> int:
    """Pixels per latent along a side; every block of the VAE but the last one halves."""
    return int(2 ** (len(config["block_out_channels"]) - 1))


def _step_options(scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    # Ancestral and SDE schedulers draw noise at every step: from each request's own generator.
    takes = inspect.signature(scheduler.step).parameters
    return {"generator": generators} if "generator" in takes else {}


def _to_image(pixels: torch.Tensor) -> Image.Image:
    levels = (pixels * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def _black(image: Image.Image) -> Image.Image:
    black = Image.new("RGB", image.size)
    black.info["flagged"] = True
    return black
