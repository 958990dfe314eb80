"""Options that every model on this machine takes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from emu2eval.adapters.local.search import Sampling
from emu2eval.errors import ConfigError
from emu2eval.spec.settings import Settings

Count = Annotated[int, Meta(ge=1)]
Penalty = Annotated[float, Meta(gt=0)]

_BESIDE_RANKS = {
    "device_map": "each process has one of the GPUs that are visible",
    "memory": "each process has one of the GPUs that are visible, and all hold equal shares",
    "quantize": "quantized weights cannot be split",
    "adapter": "adapters are merged into whole weights",
}
"""Settings that exclude tensor parallelism, and why."""


class LocalSettings(Settings, frozen=True, kw_only=True):
    """checkpoint: a local folder or a hub id; revision: a branch, tag or commit of the hub.

    dtype: of weights and computation; absent = bfloat16 on a GPU, float32 on the CPU.
    quantize: bits of the weights, by bitsandbytes. batch: requests at a time; absent = on a GPU, as many as
    a plan says fit (a power of two), elsewhere or without a plan a few.
    device_map: one device ("cpu", "cuda:1", "mps"), as with `--device`, or one for each module; None =
    the GPUs, or the CPU if there are none.
    tensor_parallel: split each layer of the language model over so many processes of this machine, one GPU
    each; the number must divide that of its heads. For answers sooner, or a model too large for one GPU; to
    answer more questions in the same time, use `--replicas`. None = one process.
    beams, length_penalty, repetition_penalty: of the search for an answer; a request's own values take
    precedence.
    temperature: above 0 = answers are sampled, anew in each trial; absent or 0 = the most likely answer,
    whatever the checkpoint's generation_config.json says. top_p, top_k: sample only from the most likely
    tokens. do_sample: true samples at a temperature of 1. seed: a different seed gives different draws.
    max_new_tokens: maximum length of an answer; overrides the task's.
    max_positions: the context length that the model was trained for; absent = as the checkpoint says.
    system: a system message for prompts that have none. reuse: compute images and shared prompt prefixes
    only once.
    threads: of torch on the CPU while the model is loaded; None = torch's own. A small model is fastest
    with one, and many times slower with more if the cores are busy with other work.
    keep_images: GiB of disk space for decoded and resized images, so that later runs need not prepare
    them again; the oldest are removed first. None = none are kept.
    keep_features: GiB of disk space for what the model's image encoder made of each image, shared by all
    processes of this machine, so that it sees an image once; 0 = none. None = 32 for Emu2 on a GPU, whose
    encoder is large and its features small, and none otherwise.
    workers: threads that decode and resize images ahead of the model; None = one for each core that the
    process may use.
    """

    checkpoint: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    quantize: Literal[8, 4] | None = None
    device_map: dict[str, int | str] | str | None = None
    tensor_parallel: Count | None = None
    batch: Count | None = None
    beams: Count = 1
    length_penalty: float = 1.0
    repetition_penalty: Penalty = 1.0
    max_positions: Count | None = None
    system: str | None = None
    reuse: bool = True
    threads: Count | None = None
    workers: Count | None = None
    keep_images: Annotated[float, Meta(gt=0)] | None = None
    keep_features: Annotated[float, Meta(ge=0)] | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Count | None = None
    do_sample: bool | None = None
    seed: int | None = None
    max_new_tokens: Count | None = None

    def __post_init__(self) -> None:
        self._check_ranks()
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
        """How answers are sampled; None = the most likely answer."""
        if not (self.do_sample or self.temperature):
            return None
        return Sampling(
            1.0 if self.temperature is None else self.temperature,
            1.0 if self.top_p is None else self.top_p,
            self.top_k,
            self.seed or 0,
        )

    @property
    def ranks(self) -> int:
        """Processes that hold the model together."""
        return self.tensor_parallel or 1

    def _check_ranks(self) -> None:
        for name, why in _BESIDE_RANKS.items():
            if self.ranks > 1 and getattr(self, name, None) is not None:
                raise ConfigError(
                    f"tensor_parallel: {self.tensor_parallel} cannot be combined with {name}: {why}",
                    hint=f"remove one of them, as in --set model.settings.{name}=null",
                )

    def _check_unused(self) -> None:
        given = [name for name in ("top_p", "top_k", "seed") if getattr(self, name) is not None]
        if given:
            raise ConfigError(
                f"{' and '.join(given)} would have no effect, because answers are not sampled",
                hint="to sample: --set model.settings.temperature=1; otherwise remove it",
            )
