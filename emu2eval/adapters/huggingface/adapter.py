"""The adapter for transformers' vision-language models: counts without weights, answers with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emu2eval.adapters.base import BatchRange, Limits
from emu2eval.adapters.huggingface import families
from emu2eval.adapters.huggingface.checkpoint import CODE, PATTERNS, TransformersCheckpoint
from emu2eval.adapters.huggingface.lora import PeftFolder
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.local.adapter import LaidOut, LocalAdapter
from emu2eval.adapters.local.choices import Question
from emu2eval.adapters.local.encoded import Shown
from emu2eval.adapters.local.files import by_hand
from emu2eval.adapters.local.search import Found
from emu2eval.adapters.memory import Device, MemoryPlan, Workload, largest
from emu2eval.errors import ConfigError, DoesNotFit, ModelError, PlanError, UserError
from emu2eval.media.images import from_pil
from emu2eval.trust import check_checkpoint_code
from emu2eval.types import (
    ChoiceOutput,
    Image,
    Mark,
    Part,
    Prompt,
    Request,
    Response,
    TextOutput,
    Turn,
)

if TYPE_CHECKING:
    from emu2eval.adapters.huggingface.form import TransformersForm
    from emu2eval.adapters.huggingface.hardware import Sizes
    from emu2eval.adapters.huggingface.kinds import Kind
    from emu2eval.adapters.huggingface.reading import TransformersReader
    from emu2eval.adapters.huggingface.thinking import Thinking
    from emu2eval.adapters.local.inference import Inference


PHOTOGRAPH = (640, 480)
"""Pixels of an image, width and height, that memory is planned for."""
ASSUMED = 4096
"""Positions of a prompt that GPUs are chosen for where nothing is known of it."""
ANSWER = 64
"""Tokens of its answer."""
ENOUGH = 512
"""Tokens within which short thoughts end."""


@dataclass(frozen=True, slots=True)
class HuggingFaceFiles:
    """A checkpoint with its processor. thinking: reads what was said; ends: ids that end an answer."""

    checkpoint: TransformersCheckpoint
    kind: Kind
    processor: Any
    form: TransformersForm
    thinking: Thinking
    ends: list[int]


class HuggingFaceAdapter(
    LocalAdapter[HuggingFaceSettings, HuggingFaceFiles, "Inference[TransformersReader]"]
):
    """Any model of `AutoModelForImageTextToText` that takes images in place of tokens, or is in `kinds`."""

    extra: ClassVar[str | None] = "hf"
    neutral: ClassVar[frozenset[str]] = LocalAdapter.neutral | {"adapter", "image_backend"}
    example: ClassVar[str] = "HuggingFaceTB/SmolVLM-Instruct"

    def __init__(self, settings: HuggingFaceSettings):
        super().__init__(settings)
        self._laid_out_truly: HuggingFaceFiles | None = None
        self._lengths: dict[Workload, tuple[int, int | None]] = {}
        if settings.trust_remote_code:
            check_checkpoint_code()

    def lacks(self) -> list[UserError]:
        found = super().lacks()
        return found if self.settings.adapter is None else [*found, *self._peft.faults()]

    @property
    def _peft(self) -> PeftFolder:
        return PeftFolder(str(self.settings.adapter))

    def identity(self) -> Mapping[str, Any]:
        from emu2eval.adapters.huggingface.backends import identity_of
        from emu2eval.adapters.local.devices import torch_dtype

        own = self.settings
        dtype = torch_dtype(own.dtype, own.device_map, self.machine)
        return {
            **({} if own.adapter is None else {"adapter": self._peft.digest()}),
            **self.opened.checkpoint.identity(),
            "dtype": str(dtype).removeprefix("torch."),
            "remote_code": own.trust_remote_code,
            **identity_of(self.opened.processor.image_processor),
        }

    @property
    def _patterns(self) -> Sequence[str]:
        return (*PATTERNS, CODE) if self.settings.trust_remote_code else PATTERNS

    def _open(self, path: Path) -> HuggingFaceFiles:
        from emu2eval.adapters.huggingface.processor import load_processor

        own = self.settings
        checkpoint = TransformersCheckpoint.at(path, own.revision, own.trust_remote_code)
        return self._laid_open(checkpoint, lambda: load_processor(checkpoint, own.image_backend))

    def _laid_open(
        self, checkpoint: TransformersCheckpoint, processor_of: Callable[[], Any]
    ) -> HuggingFaceFiles:
        """How prompts are laid out for a checkpoint. Raises ModelError where that cannot be."""
        from emu2eval.adapters.huggingface.backends import check
        from emu2eval.adapters.huggingface.form import TransformersForm
        from emu2eval.adapters.huggingface.kinds import kind_of
        from emu2eval.adapters.huggingface.loading import ends
        from emu2eval.adapters.huggingface.template import check_options
        from emu2eval.adapters.huggingface.thinking import Thinking

        own, path, config = self.settings, checkpoint.path, checkpoint.config
        family = families.find(config.model_type)
        if family is not None and family.verdict == "refused":
            raise ModelError(
                f"models of type {config.model_type} are not supported for few-shot evaluation: {family.why}",
                where=path,
                hint="for supported families: emu2eval ls families",
            )
        kind = kind_of(config.model_type)
        if not kind.places(config):
            raise ModelError(
                f"models of type {config.model_type} have no image placeholder token, which this "
                "adapter needs to show several images in order",
                where=path,
            )
        processor = processor_of()
        check(processor.image_processor, own.image_backend, path)
        template = getattr(processor, "chat_template", None)
        layout = own.layout or ("chat" if template else "plain")
        if layout == "chat" and not template:
            raise ModelError(
                "this checkpoint has no chat template",
                where=path,
                hint="for a base model, set `layout: plain`",
            )
        if own.template_options:
            check_options(processor, own.template_options, layout)
        form = TransformersForm(
            processor,
            kind.expansion(processor, own.image_options),
            layout,
            kind.slot_of(config, processor.tokenizer),
            own.system,
            own.image_mark,
            ("everything" if own.images == 1 else "demonstrations") if own.grid else None,
            own.template_options,
        )
        thinking = Thinking(processor.tokenizer, own.thinking)
        return HuggingFaceFiles(
            checkpoint, kind, processor, form, thinking, ends(checkpoint, processor.tokenizer)
        )

    def _prepares(self, opened: HuggingFaceFiles) -> Mapping[str, Any]:
        from emu2eval.adapters.huggingface.backends import prepares

        found = prepares(opened.processor, opened.form.expansion)
        # Its own code may be another one under the same name.
        code = opened.checkpoint.identity() if opened.checkpoint.code else {}
        return {**found, "code": dict(code)}

    def _limits(self, opened: HuggingFaceFiles) -> Limits:
        own, text = self.settings, opened.checkpoint.config.get_text_config(decoder=True)
        return Limits(
            frozenset({"text", "choice"}),
            images=None if own.grid else own.images,
            positions=own.max_positions or getattr(text, "max_position_embeddings", None),
            batch=self._batch,
            instead="`--set model.settings.grid=true`, which combines the demonstrations' images into one",
        )

    def _decoder(self) -> Any:
        checkpoint = self.opened.checkpoint
        path, config = checkpoint.path, checkpoint.config
        if getattr(config, "quantization_config", None) is not None:
            raise ConfigError(
                f"tensor_parallel: {self.settings.tensor_parallel} cannot split this checkpoint's quantized "
                "weights",
                where=path,
                hint="remove tensor_parallel, or use the model's weights as they were before quantization",
            )
        text = config.get_text_config(decoder=True)
        if not getattr(text, "base_model_tp_plan", None):
            raise ConfigError(
                f"tensor_parallel: {self.settings.tensor_parallel} needs a plan for splitting the model, and "
                f"the installed transformers has none for {text.model_type}",
                where=path,
                hint="remove tensor_parallel; `device_map: auto` spreads whole layers over the GPUs",
            )
        return text

    def _load(self, opened: HuggingFaceFiles) -> Inference[TransformersReader]:
        from emu2eval.adapters.huggingface.loading import load_model

        self._check_layout()
        model = load_model(opened.checkpoint, self.settings, self._gpus, self.rank)
        return self._reading(model, opened)

    def plan_memory(self, workload: Workload, memory: Mapping[Device, int]) -> MemoryPlan | None:
        from emu2eval.adapters.huggingface.hardware import context
        from emu2eval.adapters.local.devices import torch_dtype
        from emu2eval.adapters.local.placement import Demand
        from emu2eval.adapters.machine import Machine

        own, config = self.settings, self.opened.checkpoint.config
        gpus = tuple(size for device, size in memory.items() if isinstance(device, int))
        positions, image = workload.positions, None
        if positions is None:
            positions, image = self._laid(replace(workload, batch=None))
        demand = Demand(
            positions,
            workload.batch or self._batch,
            workload.beams or own.beams,
            workload.new_tokens,
            own.quantize,
        )
        dtype = torch_dtype(own.dtype, None, Machine(gpus))
        try:
            return self._memory.planned(demand, memory, dtype, context(config), image)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # A configuration that does not say what other decoders' say.
            return None

    def fit_batch(self) -> BatchRange:
        """Planned where all that grows with a batch is known; found out elsewhere."""
        where = self._gpus
        known = self.workload is not None and self.workload.positions is not None
        # What is kept of images that stand beside the text is not counted.
        known = known and self.opened.kind.slot is None
        if not where or not known or not self._memory.counted:
            return super().fit_batch()
        memory: dict[Device, int] = {i: self._where.gpus[i] for i in where if isinstance(i, int)}
        return BatchRange(self._once("batch", lambda: self._fit(memory)) or self._batch)

    def _fit(self, memory: Mapping[Device, int]) -> int | None:
        """The largest batch of the workload on these devices."""
        given = self.workload or Workload()

        def plan(batch: int) -> MemoryPlan | None:
            return self.plan_memory(replace(given, batch=batch), memory)

        try:
            alone = plan(1)
        except DoesNotFit:
            return None
        return None if alone is None else largest(plan, alone).batch

    @property
    def _gpus(self) -> Mapping[Device, int] | None:
        """Those that it takes where its settings leave that open, see `loading.load_model`."""
        own = self.settings
        placed = own.device_map not in (None, "auto") or own.memory is not None or own.ranks > 1
        if placed or not self._where.gpus:
            return None
        return self._once("GPUs", self._choose)

    def _choose(self) -> Mapping[Device, int] | None:
        from emu2eval.adapters.local.devices import torch_dtype
        from emu2eval.adapters.local.placement import Demand

        own, where, most = self.settings, self._where, self.limits.positions or ASSUMED
        given = self.workload or Workload(new_tokens=own.max_new_tokens or ANSWER)
        demand = Demand(
            given.positions or min(ASSUMED, most),
            given.batch or self._batch,
            given.beams or own.beams,
            given.new_tokens,
            own.quantize,
        )
        return self._memory.chosen(
            demand, where.gpus, torch_dtype(own.dtype, None, where), grows=given.batch is None
        )

    @cached_property
    def _memory(self) -> Sizes:
        from emu2eval.adapters.huggingface.hardware import Sizes

        return Sizes(self.opened.checkpoint, self.settings)

    def _laid(self, workload: Workload) -> tuple[int, int | None]:
        """Positions of a prompt of such demonstrations, and of an image of it, each a photograph's size."""
        if workload not in self._lengths:
            from PIL import Image as PILImage

            image = from_pil(PILImage.new("RGB", PHOTOGRAPH))
            part: tuple[Part, ...] = (*[image] * workload.images, " word" * workload.text_tokens)
            prompt = Prompt(
                query=part, turns=tuple(Turn(part, ("",)) for _ in range(workload.shots))
            )
            laid = self.opened.form.lay_out(prompt)
            shown = {one.tokens for one in laid.shown}
            each = shown.pop() if len(shown) == 1 else None
            self._lengths[workload] = len(laid) + workload.new_tokens, each
        return self._lengths[workload]

    def _reading(self, model: Any, opened: HuggingFaceFiles) -> Inference[TransformersReader]:
        """A model that is loaded, ready to be asked."""
        from emu2eval.adapters.huggingface.loading import check_kind
        from emu2eval.adapters.huggingface.processor import marks_of
        from emu2eval.adapters.huggingface.selfcheck import check_image, told
        from emu2eval.adapters.local.attention import install, remove
        from emu2eval.adapters.local.inference import Inference

        own, kind, form = self.settings, opened.kind, opened.form
        if kind.slot is None:
            check_kind(type(model), opened.checkpoint)
        pad = opened.processor.tokenizer.pad_token_id
        shares = own.reuse and install(model)
        with told(type(model).__name__, opened.checkpoint.path):
            reader = kind.reader(
                model,
                kind.encoder(model, form.expansion, own.reuse),
                opened.ends[0] if pad is None else pad,
                shares,
                opened.ends,
                marks_of(opened.processor, form.slot),
            )
            reader.rank = self.rank
            if shares and not (reader.segments and reader.takes_segments()):
                # A model's own code may go by the name: sparse attention is applied under "sdpa" alone.
                reader.segments = False
                remove(model)
            inference = Inference(reader, own.reuse)
            check_image(inference, form)
        return inference

    def _count(self, request: Request) -> LaidOut:
        prompt, out, form = request.prompt, request.output, self.opened.form
        laid = form.lay_out(prompt)
        if isinstance(out, ChoiceOutput):
            if self.opened.thinking.opened(laid):
                raise PlanError(
                    "the model's chat template starts a reasoning block, in which choices cannot be ranked",
                    hint="if the template can omit it: "
                    "--set model.settings.template_options.enable_thinking=false",
                )
            replied = form.with_replies(prompt, out.choices)
            question = Question.of(laid, replied, out.choices)
            return LaidOut(prompt, laid, max(map(len, (laid, *replied))), question)
        new = out.max_new_tokens + self._room if isinstance(out, TextOutput) else 0
        return LaidOut(prompt, laid, len(laid) + new)

    def warning(self, request: Request) -> str | None:
        request = self._bounded(request)
        out = request.output
        if not isinstance(out, TextOutput) or out.max_new_tokens + self._room >= ENOUGH:
            return None
        if not self.opened.thinking.opened(self.opened.form.lay_out(request.prompt)):
            return None
        return (
            "the model's chat template starts a reasoning block, for which "
            f"{out.max_new_tokens + self._room} "
            "tokens may be too few; an answer with unfinished reasoning is unscored. To omit the reasoning, "
            "if the template can: "
            "--set model.settings.template_options.enable_thinking=false; to allow more tokens: "
            "--set model.settings.thinking=4096"
        )

    def _shown(self, image: Image) -> Shown:
        return self.opened.form.lay_out(Prompt(query=(image, ""))).shown[0]

    def _said(self, found: Found, laid: LaidOut, out: TextOutput) -> Response:
        return self.opened.thinking.response(found, laid.pieces, out.max_new_tokens)

    @property
    def _room(self) -> int:
        return self.settings.thinking

    def _marks(self, laid: LaidOut) -> tuple[Mark, ...]:
        moved = self.opened.form.moves_images(laid.prompt)
        tiled = any(shown.tiles for shown in laid.pieces.shown)
        said = {"tiles": tiled, "images_moved": moved}
        return tuple(Mark(kind) for kind, holds in said.items() if holds)

    def _check_layout(self) -> None:
        from emu2eval.adapters.huggingface.selfcheck import check_layout

        opened = self.opened
        if opened is not self._laid_out_truly:
            check_layout(opened.form, opened.checkpoint.path, several=self.settings.images != 1)
            self._laid_out_truly = opened

    def _check_weights(self) -> None:
        from emu2eval.adapters.local.shards import weight_files

        path = self.opened.checkpoint.path
        if not weight_files(path):
            raise ModelError(
                "the folder contains no weights (*.safetensors)",
                where=path,
                hint=by_hand(self.settings.checkpoint, self.settings.revision),
            )
