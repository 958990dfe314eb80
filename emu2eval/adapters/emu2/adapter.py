"""The Emu2 adapter: checks and counts without weights, answers with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emu2eval.adapters.base import BatchRange, Limits
from emu2eval.adapters.emu2 import tokenizer as tokens
from emu2eval.adapters.emu2.config import Emu2Config, told_variant
from emu2eval.adapters.emu2.prompt import Emu2Form, Item
from emu2eval.adapters.emu2.settings import Emu2Settings
from emu2eval.adapters.emu2.tokenizer import Tokenizer
from emu2eval.adapters.local.adapter import LaidOut, LocalAdapter
from emu2eval.adapters.local.choices import Question
from emu2eval.adapters.local.encoded import Shown
from emu2eval.adapters.local.files import HUB_ID, at_hand
from emu2eval.adapters.local.search import Found
from emu2eval.adapters.memory import MOST_AT_ONCE, Device, MemoryPlan, Workload
from emu2eval.errors import DoesNotFit, ModelError
from emu2eval.types import (
    ChoiceOutput,
    Image,
    ImageOutput,
    Mark,
    Output,
    Prompt,
    Request,
    Response,
    TextOutput,
)

if TYPE_CHECKING:
    import torch

    from emu2eval.adapters.emu2.checkpoint import Emu2Checkpoint
    from emu2eval.adapters.emu2.inference import Emu2Inference, WantedImage
    from emu2eval.adapters.emu2.painter import Painter
    from emu2eval.adapters.local.placement import Demand, Placement

_ANSWER = 64
"""Tokens of an answer for which memory is set aside on each device; few tasks want more."""

_FEATURES = 32.0
"""GiB of features that are kept on a machine with a GPU: of 150,000 images, all of VQAv2's."""


@dataclass(frozen=True, slots=True)
class Emu2Files:
    """A checkpoint with its tokenizer, and how prompts are laid out for it."""

    checkpoint: Emu2Checkpoint
    tokenizer: Tokenizer
    form: Emu2Form

    @property
    def config(self) -> Emu2Config:
        return self.checkpoint.config


class Emu2Adapter(LocalAdapter[Emu2Settings, Emu2Files, "Emu2Inference"]):
    """Emu2, Emu2-Chat and Emu2-Gen (arXiv 2312.13286), with the authors' defaults."""

    extra: ClassVar[str | None] = "emu2"
    packages: ClassVar[tuple[str, ...]] = (
        *("torch", "transformers", "accelerate", "diffusers", "sentencepiece"),
    )
    few: ClassVar[int] = 4
    example: ClassVar[str] = "BAAI/Emu2-Chat"
    neutral: ClassVar[frozenset[str]] = LocalAdapter.neutral | {"tokenizer", "offload_folder"}

    def __init__(self, settings: Emu2Settings):
        super().__init__(settings)

    def identity(self) -> Mapping[str, Any]:
        opened = self.opened
        return {
            "weights": opened.checkpoint.digest(),
            "tokenizer": opened.tokenizer.digest(),
            "variant": opened.config.variant,
            "dtype": str(self._dtype).removeprefix("torch."),
        }

    @property
    def _dtype(self) -> torch.dtype:
        from emu2eval.adapters.local.devices import torch_dtype

        return torch_dtype(self.settings.dtype, self.settings.device_map, self.machine)

    def _demand(self, batch: int) -> Demand:
        """Such batches of what is expected; of prompts that fill the context where nothing is known."""
        from emu2eval.adapters.local.placement import Demand

        own, given = self.settings, self.workload
        beams, new = own.beams, max(_ANSWER, own.max_new_tokens or 0)
        positions = most = self.limits.positions or 0
        if given is not None:
            beams, new = given.beams or beams, given.new_tokens
            positions = min(most, given.positions or most)
        return Demand(positions, batch, beams, new, own.quantize)

    def _placed(self, batch: int) -> Placement | None:
        """Which part lies where on its machine's devices, with room for such batches. Raises DoesNotFit."""
        from emu2eval.adapters.emu2.hardware import placed

        return placed(
            self.opened.config,
            self._devices,
            self.settings.device_map,
            self._demand(batch),
            dtype=self._dtype,
            painter=self._configs,
        )

    @property
    def _devices(self) -> Mapping[Device, int]:
        """The devices that it takes, and bytes of each; none = the CPU."""
        from emu2eval.adapters.emu2.hardware import chosen

        own = self.settings
        if own.device_map not in (None, "auto"):
            return {}
        return self._once(
            "devices",
            lambda: chosen(
                self.opened.config,
                own.memory,
                self._where,
                self._demand((self.workload and self.workload.batch) or self._batch),
                dtype=self._dtype,
                painter=self._configs,
            ),
        )

    @property
    def _configs(self) -> Mapping[str, Mapping[str, Any]] | None:
        """Of the visual decoder, as the placement of a checkpoint that is here wants them."""
        checkpoint = self.opened.checkpoint
        return checkpoint.configs if checkpoint.paints else None

    def plan_memory(self, workload: Workload, memory: Mapping[Device, int]) -> MemoryPlan:
        from emu2eval.adapters.emu2.hardware import planned

        own, config = self.settings, self._sizes
        return planned(
            config,
            workload,
            memory,
            batch=self._batch,
            beams=own.beams,
            dtype=own.dtype,
            quantize=own.quantize,
            painter=self._painter(),
            ranks=own.ranks,
        )

    def fit_batch(self) -> BatchRange:
        if self.settings.ranks > 1:
            return self._fit_of_ranks() or super().fit_batch()
        return BatchRange(self._once("batch", self._largest))

    def _largest(self) -> int:
        """The largest power of two for which no more has to leave the GPUs than for a single request; what
        the settings say where nothing is planned."""
        alone = self._placed(1)
        if alone is None or not any(isinstance(use.device, int) for use in alone.devices):
            return self._batch
        found, tried = 1, 2
        while tried <= MOST_AT_ONCE:
            try:
                placement = self._placed(tried)
            except DoesNotFit:
                break
            if placement is None or placement.away > alone.away:
                break
            found, tried = tried, 2 * tried
        return found

    def _painter(self) -> Mapping[str, Mapping[str, Any]] | None:
        """The visual decoder's configurations; {} = there is none, None = as published."""
        if not self._here:
            return None
        checkpoint = self.opened.checkpoint
        return (checkpoint.configs or None) if checkpoint.paints else {}

    @property
    def _patterns(self) -> Sequence[str]:
        # No code; pickles, which are opened as weights only, where there is nothing else.
        return ("*.json", "*.safetensors", "*tokenizer.model")

    def _open(self, path: Path) -> Emu2Files:
        from emu2eval.adapters.emu2.checkpoint import open_checkpoint

        own = self.settings
        checkpoint = open_checkpoint(path, own.variant)
        if own.safety and "safety_checker" not in checkpoint.parts:
            raise ModelError("this checkpoint has no safety checker", where=path)
        file = own.tokenizer or checkpoint.tokenizer_path
        if file is None:
            raise ModelError(
                "this checkpoint has no tokenizer.model",
                where=path,
                hint="set `tokenizer` to the path of LLaMA's tokenizer.model",
            )
        tokenizer = Tokenizer(file, checkpoint.config.variant, own.manner)
        return self._laid_open(checkpoint, tokenizer)

    def _laid_open(self, checkpoint: Emu2Checkpoint, tokenizer: Tokenizer) -> Emu2Files:
        """How prompts are laid out for a checkpoint. Raises ModelError where the two do not fit."""
        own, config = self.settings, checkpoint.config
        if tokenizer.size != config.decoder.vocab_size:
            raise ModelError(
                f"the tokenizer has {tokenizer.size:,} tokens, including Emu2's own, but the model "
                f"has {config.decoder.vocab_size:,}",
                where=tokenizer.path,
                hint="use the tokenizer.model that belongs to this checkpoint and variant",
            )
        return Emu2Files(
            checkpoint, tokenizer, Emu2Form(tokenizer, config, own.system, own.grounding)
        )

    def _room_for_features(self, device: torch.device) -> float:
        # 229 KB of an image that takes the 4B tower 9 TFLOP: 0.3 ms to read, 20 to make.
        own = self.settings.keep_features
        return (_FEATURES if device.type == "cuda" else 0.0) if own is None else own

    def _prepares(self, opened: Emu2Files) -> Mapping[str, Any]:
        return {"emu2": opened.config.vision.image_size}

    def _limits(self, opened: Emu2Files) -> Limits:
        outputs = {"text", "choice"} | ({"image"} if opened.checkpoint.paints else set())
        most = self.settings.max_positions or opened.config.decoder.max_position_embeddings
        return Limits(frozenset(outputs), positions=most, batch=self._batch)

    def _load(self, opened: Emu2Files) -> Emu2Inference:
        from emu2eval.adapters.emu2.checkpoint import load_model, load_painter
        from emu2eval.adapters.emu2.inference import Emu2Inference

        own, checkpoint = self.settings, opened.checkpoint
        dtype, placement = self._dtype, None
        if self.rank is None:
            # Room for the largest batch has room for every other one.
            given = self.workload.batch if self.workload is not None else None
            placement = self._placed(given or self.fit_batch().first)
        model = load_model(
            checkpoint,
            dtype=dtype,
            placement=placement,
            quantize=own.quantize,
            offload_folder=Path(own.offload_folder) if own.offload_folder is not None else None,
            mesh=None if self.rank is None else self.rank.mesh,
        )

        def painter() -> Painter:
            device = placement.painter if placement is not None else None
            return load_painter(checkpoint, dtype=dtype, device=device, safety=own.safety)

        empty = opened.form.encode([opened.tokenizer.ids[tokens.BOI]])
        return Emu2Inference(model, empty, painter, own.reuse, own.together, self.rank, own.graphs)

    def _decoder(self) -> Any:
        # A published checkpoint need not be downloaded to be refused.
        known = self._here or HUB_ID.fullmatch(self.settings.checkpoint)
        return (self._sizes if known else self.opened.config).decoder

    def _count(self, request: Request) -> LaidOut:
        prompt, out, opened = request.prompt, request.output, self.opened
        form = opened.form
        items: list[Item] = form.lay_out(prompt)
        if isinstance(out, ImageOutput):
            laid = form.pieces([*items, opened.tokenizer.ids[tokens.BOI]])
            return LaidOut(prompt, laid, len(laid) + opened.config.n_query)
        laid = form.pieces(items)
        if isinstance(out, ChoiceOutput):
            replied = [form.with_reply(prompt, items, choice) for choice in out.choices]
            question = Question.of(laid, replied, out.choices)
            return LaidOut(prompt, laid, max(map(len, (laid, *replied))), question)
        new = out.max_new_tokens if isinstance(out, TextOutput) else 0
        return LaidOut(prompt, laid, len(laid) + new)

    def _shown(self, image: Image) -> Shown:
        return Shown(image, self.opened.config.n_query)

    def _said(self, found: Found, laid: LaidOut, out: TextOutput) -> Response:
        opened = self.opened
        text = opened.tokenizer.decode(found.ids, special=opened.form.wants_boxes(laid.prompt))
        return Response(text=text, ended="stop" if found.ended else "length")

    def _others(
        self, inference: Emu2Inference, asked: Sequence[tuple[Output, LaidOut]]
    ) -> list[Response]:
        found = inference.images([self._wanted(output, laid) for output, laid in asked])
        return [
            Response(
                images=(image,),
                tokens_in=len(laid.pieces),
                marks=(Mark("flagged"),) if flagged else (),
            )
            for (image, flagged), (_, laid) in zip(found, asked, strict=True)
        ]

    def _wanted(self, output: Output, laid: LaidOut) -> WantedImage:
        from emu2eval.adapters.emu2.inference import WantedImage

        assert isinstance(output, ImageOutput)
        own = self.settings
        wanted = replace(
            output,
            steps=own.steps if output.steps is None else output.steps,
            guidance=own.guidance if output.guidance is None else output.guidance,
        )
        # The authors' autoencoding mode: an image and nothing else is painted again.
        return WantedImage(laid.encoded, wanted, again=_is_image_alone(laid.prompt))

    def _check_memory(self) -> None:
        from emu2eval.adapters.emu2.hardware import all_of_it

        own = self.settings
        known = self._here or HUB_ID.fullmatch(own.checkpoint)
        if known and own.device_map is None:
            self.plan_memory(Workload(new_tokens=_ANSWER), all_of_it(own.memory, self._where))

    @property
    def _here(self) -> bool:
        own = self.settings
        return at_hand(own.checkpoint, own.revision, self._patterns) is not None

    @property
    def _sizes(self) -> Emu2Config:
        """The checkpoint's own; the official ones of a published one that is not on this machine."""
        own = self.settings
        if self._here:
            return self.opened.config
        return Emu2Config.official(own.variant or told_variant(own.checkpoint))


def _is_image_alone(prompt: Prompt) -> bool:
    """Whether it is an image and nothing else; ("", image) is a prompt with a text."""
    alone = len(prompt.query) == 1 and not prompt.turns and prompt.system is None
    return alone and isinstance(prompt.query[0], Image)
