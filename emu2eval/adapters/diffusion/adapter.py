"""The adapter for diffusers' pipelines: one image a request, from noise of its own."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.adapters.diffusion.texts import remember
from emu2eval.adapters.local.files import absent, at_hand, folder_digest, located, refuse_adapters
from emu2eval.adapters.memory import Device, MemoryPlan, Workload
from emu2eval.errors import MissingExtra, ModelError, NotFinite, UserError
from emu2eval.media.images import from_pil, load
from emu2eval.spec.settings import Count, Settings
from emu2eval.types import ImageOutput, Mark, Request, Response

_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
_EXAMPLE = "stable-diffusion-v1-5/stable-diffusion-v1-5"


class DiffusionSettings(Settings):
    """mode: "text" = images from text, "image" = from text and the prompt's image (image to image).

    steps, guidance, width, height: None = the pipeline's own; a request's own come first.
    strength: how far an image may change. negative: a text to keep away from.
    max_positions: the longest text, which a pipeline would cut in silence; None = its tokenizer's limit.
    device: such as cuda:1; None = the first GPU or the CPU.
    checkpoint: a folder of diffusers, or a repository of the hub; revision: its commit, branch or tag.
    dtype: of the weights, such as float16; batch: images at a time.
    """

    checkpoint: str
    revision: str | None = None
    mode: Literal["text", "image"] = "text"
    steps: Count | None = None
    guidance: float | None = None
    width: Count | None = None
    height: Count | None = None
    strength: Annotated[float, Meta(gt=0, le=1)] | None = None
    negative: str | None = None
    max_positions: Count | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    device: str | None = None
    batch: Count = 1

    def __post_init__(self) -> None:
        if self.strength is not None and self.mode != "image":
            raise ValueError("strength needs `mode: image`")


class DiffusionAdapter(Adapter):
    """A diffusers pipeline from a local folder or the hub; the repository's own code is never run.

    The prompt's texts are joined; an image that the pipeline cannot take is refused, never dropped.
    """

    extra: ClassVar[str | None] = "emu2"
    device_setting: ClassVar[str | None] = "device"
    neutral: ClassVar[frozenset[str]] = frozenset({"batch", "checkpoint", "device"})

    def __init__(self, settings: DiffusionSettings):
        self._settings = settings
        self._pipeline: Any = None

    @cached_property
    def limits(self) -> Limits:  # type: ignore[override]
        """From the pipeline's files: a tokenizer says how long a text may be."""
        return Limits(
            frozenset({"image"}),
            images=1 if self._settings.mode == "image" else 0,
            positions=self._settings.max_positions or self._longest,
            image_replies=False,
            batch=self._settings.batch,
        )

    def lacks(self) -> list[UserError]:
        packages = ("torch", "transformers", "diffusers")
        if missing := MissingExtra.of(packages, "emu2", why="the adapter 'diffusers'"):
            return missing
        from emu2eval.adapters.local.devices import check_devices

        try:
            check_devices(self._settings.device, self.machine)
            _ = self._class
        except UserError as error:
            return [error]
        return []

    def fetch(self) -> None:
        located(self._settings.checkpoint, self._settings.revision, _FILES, example=_EXAMPLE)
        self.__dict__.pop("_path", None)

    def identity(self) -> Mapping[str, Any]:
        return {
            "weights": folder_digest(self._path),
            "revision": self._settings.revision,
            "pipeline": self._class,
            "dtype": self._dtype_name,
        }

    def positions(self, request: Request) -> int | None:
        """Tokens of the text, by the tokenizer that counts fewest: some pipelines have several."""
        text = _text(request)
        counts = [len(tokenizer(text)["input_ids"]) for tokenizer in self._tokenizers]
        return min(counts, default=None)

    def refusal(self, request: Request) -> str | None:
        """Why the pipeline cannot take the request."""
        shown = sum(1 for _ in request.prompt.images())
        if self._settings.mode == "image" and shown != 1:
            return f"the pipeline needs exactly one image, but the prompt has {shown}"
        if self._settings.mode == "text" and shown:
            return f"the pipeline accepts only text, but the prompt has {shown} images"
        return None

    def plan_memory(self, workload: Workload, memory: Mapping[Device, int]) -> MemoryPlan:
        import torch

        from emu2eval.adapters.diffusion.budget import planned

        own = self._settings
        on_gpu = any(isinstance(device, int) for device in memory)
        dtype = getattr(torch, own.dtype or ("float16" if on_gpu else "float32"))
        return planned(self._path, dtype, (own.width, own.height), memory)

    def load(self) -> None:
        import diffusers
        import torch

        from emu2eval.adapters.diffusion.parts import load_parts, watch

        kind: Any = diffusers.DiffusionPipeline
        try:
            dtype = getattr(torch, self._dtype_name)
            parts = load_parts(self._path, dtype)
            pipeline = kind.from_pretrained(self._path, torch_dtype=dtype, **parts)
            if self._settings.mode == "image" and not _takes_image(pipeline):
                # Each family has its image-to-image pipeline under such a name, of the same parts.
                name = type(pipeline).__name__.replace("Pipeline", "Img2ImgPipeline")
                pipeline = getattr(diffusers, name).from_pipe(pipeline)
        except UserError:
            raise
        except Exception as error:
            raise ModelError(
                f"diffusers cannot load this pipeline for `mode: {self._settings.mode}` "
                f"({_first_line(error)})",
                where=self._path,
            ) from error
        if self._settings.mode == "text" and _takes_image(pipeline, always=True):
            raise ModelError(
                f"{type(pipeline).__name__} needs an image",
                where=self._path,
                hint="set `mode: image`",
            )
        pipeline.set_progress_bar_config(disable=True)
        try:
            self._pipeline = pipeline.to(self._place)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"the pipeline cannot be moved to the device {self._place} ({_first_line(error)})",
                hint="set model.settings.device to cpu, cuda or cuda:1; if memory runs out, use a "
                "smaller pipeline",
            ) from None
        remember(self._pipeline)
        watch(self._pipeline)

    def close(self) -> None:
        self._pipeline = None

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        """One at a time: in a batch, rounding alone would change the pixels."""
        if self._pipeline is None:
            raise ModelError("the model is not loaded", hint="call load() before answer()")
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        import torch

        from emu2eval.adapters.local.devices import exact_convolutions

        out = request.output
        reason = self.refusal(request)
        if reason is not None or not isinstance(out, ImageOutput):
            return Response(error=reason or f"this model does not produce {out.kind}")
        try:
            shown = [load(image) for image in request.prompt.images()]
        except UserError as error:
            return Response(error=str(error))
        wanted: dict[str, Any] = {
            "prompt": _text(request),
            "negative_prompt": self._settings.negative,
            "num_inference_steps": self._settings.steps if out.steps is None else out.steps,
            "guidance_scale": self._settings.guidance if out.guidance is None else out.guidance,
            "width": self._settings.width if out.width is None else out.width,
            "height": self._settings.height if out.height is None else out.height,
            "image": shown[0] if shown else None,
            "strength": self._settings.strength,
        }
        takes = inspect.signature(self._pipeline.__call__).parameters
        given = {name: value for name, value in wanted.items() if value is not None}
        unknown = [name for name in given if name not in takes and name not in ("width", "height")]
        if unknown:
            return Response(error=f"the pipeline does not accept {', '.join(unknown)}")
        if shown and "width" not in takes and ("width" in given or "height" in given):
            # The image's own size decides, so it is given the size that was asked for.
            width, height = (wanted["width"] or shown[0].width, wanted["height"] or shown[0].height)
            given["image"] = shown[0].resize((width, height))
        noise = torch.Generator("cpu").manual_seed(out.seed)
        known = {name: value for name, value in given.items() if name in takes}
        try:
            with exact_convolutions():
                result = self._pipeline(**known, generator=noise)
        except NotFinite as error:
            return Response(error=str(error))
        flagged = any(getattr(result, "nsfw_content_detected", None) or ())
        marks = (Mark("flagged"),) if flagged else ()
        return Response(images=(from_pil(result.images[0]),), marks=marks)

    @cached_property
    def _path(self) -> Path:
        path = at_hand(self._settings.checkpoint, self._settings.revision, _FILES)
        if path is None:
            raise absent(self._settings.checkpoint, self._settings.revision, example=_EXAMPLE)
        return path

    @cached_property
    def _class(self) -> str:
        """The pipeline's, by its files. Raises ModelError where they are not here, or are no pipeline's."""
        for folder in (self._path, *(path for path in self._path.iterdir() if path.is_dir())):
            refuse_adapters(folder)
        index = self._path / "model_index.json"
        if not index.is_file():
            raise ModelError(
                "not a diffusers pipeline: the folder has no model_index.json",
                where=self._path,
                hint="give the folder written by `hf download` or `save_pretrained`",
            )
        try:
            return str(json.loads(index.read_text(encoding="utf-8"))["_class_name"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelError(
                f"the file does not name a pipeline ({error!r})", where=index
            ) from None

    @cached_property
    def _tokenizers(self) -> list[Any]:
        import transformers

        kind: Any = transformers.AutoTokenizer
        folders = sorted(path for path in self._path.glob("tokenizer*") if path.is_dir())
        try:
            # Left out, transformers asks at the terminal whether code of the folder's own may run.
            return [kind.from_pretrained(folder, trust_remote_code=False) for folder in folders]
        except Exception as error:
            raise ModelError(
                f"transformers cannot read the pipeline's tokenizer ({_first_line(error)})",
                where=self._path,
            ) from None

    @cached_property
    def _longest(self) -> int | None:
        lengths = [int(tokenizer.model_max_length) for tokenizer in self._tokenizers]
        # transformers writes a number of thirty digits where there is no limit.
        return max((length for length in lengths if length < 1 << 30), default=None)

    @property
    def _place(self) -> str:
        from emu2eval.adapters.local.devices import on_gpu

        return self._settings.device or ("cuda" if on_gpu(None, self.machine) else "cpu")

    @property
    def _dtype_name(self) -> str:
        return self._settings.dtype or ("float16" if self._place.startswith("cuda") else "float32")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _text(request: Request) -> str:
    return "".join(part for part in request.prompt.flat() if isinstance(part, str)).strip()


def _takes_image(pipeline: Any, always: bool = False) -> bool:
    """Whether an image can be given, or has to be."""
    image = inspect.signature(pipeline.__call__).parameters.get("image")
    return image is not None and not (always and image.default is None)
