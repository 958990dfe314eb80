"""The options of Emu2's adapter."""

from __future__ import annotations

from typing import Literal

from emu2eval.adapters.emu2.config import Variant
from emu2eval.adapters.emu2.tokenizer import Manner
from emu2eval.adapters.local.settings import Count, LocalSettings
from emu2eval.errors import ConfigError


class Emu2Settings(LocalSettings, frozen=True, kw_only=True):
    """variant: base, chat or gen; absent = detected from the checkpoint.

    tokenizer: LLaMA's tokenizer.model, if the checkpoint does not contain it. manner: white space beside
    special tokens, see `Tokenizer`. system: replaces the chat model's system message.
    memory: how much memory each device may use, such as "24GiB,24GiB,cpu:64GiB"; the blocks are spread
    over them.
    device_map: instead of `memory`, one device ("cpu", "cuda:1") or one for each module; if neither is
    given, all free GPUs or, without any, the CPU. offload_folder: where blocks on "disk" go if the
    checkpoint is a pickle.
    grounding: expect boxes in every answer; otherwise only in answers to questions that end with
    <grounding>.
    steps, guidance: of the visual decoder; None = the authors' 50 and 3.0. A request's own come first.
    together: images that are regressed and drawn at a time; None = on a GPU eight and four, so that their
    pixels depend on the batch by rounding, and on the CPU as many as change no byte of any.
    graphs: decode in steps of fixed memory, which a GPU that holds the whole decoder records as a CUDA graph
    and replays. Its log-probabilities may be rounded otherwise. Compared on the CPU; not yet run on a GPU.
    safety: blacken images that Emu2-Gen's safety checker flags.
    """

    dtype: Literal["float32", "bfloat16"] | None = None
    beams: Count = 5
    length_penalty: float = -1.0
    variant: Variant | None = None
    tokenizer: str | None = None
    manner: Manner = "native"
    memory: str | None = None
    offload_folder: str | None = None
    grounding: bool = False
    steps: Count | None = None
    guidance: float | None = None
    together: Count | None = None
    graphs: bool = False
    safety: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory is not None and self.device_map is not None:
            raise ConfigError("memory and device_map both place the model; give only one of them")
