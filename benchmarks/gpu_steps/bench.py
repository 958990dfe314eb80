"""Where the steps run, how large they are, what time they have, and what was found."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch

from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
from emu2eval.adapters.emu2.inference import Emu2Inference
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.local.encoded import Encoded

GIB = 2**30
ROOT = Path(__file__).resolve().parents[2]
WHOLE, SHORT, ROOMY = 60, 40, 100 * GIB
"""Layers of the decoder: all where a card has so much memory, else as many as leave room beside them."""


@dataclass
class Bench:
    """layers: of the decoder; None = as many as suit the card. until: when the last step begins."""

    folder: Path
    tiny: bool
    layers: int | None = None
    until: float = float("inf")
    found: dict[str, Any] = field(default_factory=dict)
    _step_until: float = float("inf")

    @property
    def cuda(self) -> bool:
        return torch.cuda.is_available()

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.cuda else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.cuda else torch.float32

    @property
    def memory(self) -> int:
        """Bytes of the card; 4 GiB stand in for one."""
        return torch.cuda.get_device_properties(0).total_memory if self.cuda else 4 * GIB

    @property
    def config(self) -> Emu2Config:
        if not self.tiny:
            layers = self.layers or (WHOLE if self.memory > ROOMY else SHORT)
            return Emu2Config(decoder=DecoderConfig(num_hidden_layers=layers))
        return Emu2Config(
            VisionConfig(image_size=64, patch_size=8, width=64, layers=2, head_width=32),
            DecoderConfig(64, 128, 4, 2, 1200),
        )

    @cached_property
    def model(self) -> Emu2:
        """Random weights, norms of one: nothing is read, and nothing overflows."""
        with torch.device("meta"):
            model = Emu2(self.config).to(self.dtype)
        model = model.to_empty(device=self.device).eval().requires_grad_(False)
        random = torch.Generator(self.device).manual_seed(0)
        for name, weights in model.named_parameters():
            if "norm" in name:
                weights.fill_(float(name.endswith("weight")))
            else:
                weights.normal_(0, 0.02, generator=random)
        return model

    def forget_model(self) -> None:
        """Beside the weights, an 80 GB card has no room for the visual decoder."""
        self.__dict__.pop("model", None)
        gc.collect()

    def inference(self, reuse: bool = True) -> Emu2Inference:
        return Emu2Inference(self.model, words(2), no_painter, reuse)

    def begin(self, seconds: float) -> None:
        """A step, which has so much time for what it may leave out."""
        self._step_until = min(self.until, time.monotonic() + seconds)

    @property
    def late(self) -> bool:
        """Whether the rest of a step is to be left out."""
        return time.monotonic() > self._step_until

    def write(self, step: str, figures: object) -> None:
        self.found[step] = figures
        (self.folder / "gpu.json").write_text(json.dumps(self.found, indent=1))
        print(f"{step}: {json.dumps(figures)}", flush=True)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeats: int = 1) -> float:
        """Of one call, with the device's work; one call before it is not counted."""
        work()
        self.wait()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        self.wait()
        return (time.perf_counter() - started) / repeats

    @contextmanager
    def peak(self) -> Iterator[dict[str, float]]:
        """The most memory that torch held within, GiB; 0 on a CPU."""
        found = {"peak_gib": 0.0}
        if self.cuda:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        yield found
        if self.cuda:
            found["peak_gib"] = torch.cuda.max_memory_allocated() / GIB


def words(length: int, seed: int = 0) -> Encoded:
    """A prompt of words alone; prompts of different seeds begin differently."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 400, (length,), generator=random).tolist()
    return Encoded(tuple(ids), (False,) * length)


def unlike(count: int, length: int) -> list[Encoded]:
    """Prompts of about that length, no two of one length beside each other."""
    return [words(length - i % 7, seed=i) for i in range(count)]


def no_painter() -> NoReturn:
    raise RuntimeError("nothing is painted here")
