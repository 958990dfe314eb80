"""Options that every model on this machine takes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from emu2eval.adapters.local.search import Sampling
from emu2eval.errors import ConfigError
from emu2eval.spec.settings import Settings

Count = Annotated[int, Meta(ge=1)]
Penalty = Annotated[float, Meta(gt=0)]


class LocalSettings(Settings, frozen=True, kw_only=True):
    """checkpoint: a local folder or a hub id; revision: a branch, tag or commit of the hub.

    dtype: of weights and computation; bfloat16 on a GPU and float32 on the CPU where it is left out.
    quantize: bits of the weights, by bitsandbytes. batch: requests at a time.
    device_map: one device ("cpu", "cuda:1", "mps"), which `--device` gives, too, or one for each module;
    None = the GPUs, else the CPU.
    beams, length_penalty, repetition_penalty: of the search for an answer; a request's own come first.
    temperature: above 0 answers are drawn, each trial of a run anew; left out or 0, the likeliest are
    searched for, whatever the checkpoint's generation_config.json says. top_p, top_k: draw from the likeliest
    tokens alone. do_sample: true draws at a temperature of 1. seed: another one, other draws.
    max_new_tokens: of an answer, in place of the task's.
    max_positions: the context that the model was trained for; the checkpoint's own where it is left out.
    system: a system text, where a prompt has none. reuse: images and shared beginnings of prompts are
    computed once.
    threads: of torch on the CPU while the model is loaded; None = torch's own. A small model is quickest
    with one, and many times slower with more where other work keeps the cores busy.
    keep_images: GiB on the disk for decoded and resized images, so that another run, or the same at other
    shots, prepares none anew; the oldest go. None = none are kept.
    workers: threads that decode and resize images ahead of the model; None = one for each core that the
    process may use.
    """

    checkpoint: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    quantize: Literal[8, 4] | None = None
    device_map: dict[str, int | str] | str | None = None
    batch: Count = 8
    beams: Count = 1
    length_penalty: float = 1.0
    repetition_penalty: Penalty = 1.0
    max_positions: Count | None = None
    system: str | None = None
    reuse: bool = True
    threads: Count | None = None
    workers: Count | None = None
    keep_images: Annotated[float, Meta(gt=0)] | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Count | None = None
    do_sample: bool | None = None
    seed: int | None = None
    max_new_tokens: Count | None = None

    def __post_init__(self) -> None:
        if self.sampling is None:
            self._check_unused()
        elif self.do_sample is False or self.temperature == 0:
            raise ConfigError(
                f"do_sample is {str(self.do_sample).lower()} but temperature is {self.temperature:g}: one "
                "means sampling, the other greedy decoding",
                hint="remove one of them",
            )
        elif self.beams > 1:
            raise ConfigError(
                f"sampling cannot be combined with beam search, but beams is {self.beams}",
                hint="to sample: --set model.settings.beams=1; otherwise remove temperature and do_sample",
            )

    @property
    def sampling(self) -> Sampling | None:
        """How answers are drawn; None = the likeliest is searched for."""
        if not (self.do_sample or self.temperature):
            return None
        return Sampling(
            1.0 if self.temperature is None else self.temperature,
            1.0 if self.top_p is None else self.top_p,
            self.top_k,
            self.seed or 0,
        )

    def _check_unused(self) -> None:
        given = [name for name in ("top_p", "top_k", "seed") if getattr(self, name) is not None]
        if given:
            raise ConfigError(
                f"{' and '.join(given)} would have no effect, because answers are not sampled",
                hint="to sample: --set model.settings.temperature=1; otherwise remove it",
            )
