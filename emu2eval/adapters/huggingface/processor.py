"""The checkpoint's own processor, also where its video part cannot be built."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from emu2eval.adapters.huggingface import vision
from emu2eval.adapters.huggingface.backends import with_backend
from emu2eval.adapters.huggingface.checkpoint import TransformersCheckpoint
from emu2eval.adapters.huggingface.settings import Backend
from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.private import made_of
from emu2eval.errors import ModelError, UserError


def load_processor(checkpoint: TransformersCheckpoint, backend: Backend = "auto") -> Any:
    """transformers' processor with a template, a tokenizer and an image processor.

    Raises ModelError, or MissingExtra for a package that the family or the backend needs: see `vision`.

    Video processors, and image processors that work on tensors, want torchvision. Without it the image
    processor that works through Pillow is taken, and a processor without its video part.
    """
    import transformers

    vision.check(checkpoint)
    kind: Any = transformers.AutoProcessor
    try:
        try:
            processor = kind.from_pretrained(checkpoint.path, trust_remote_code=checkpoint.code)
        except (ImportError, ValueError) as error:
            if "torchvision" not in str(error).lower():
                raise
            processor = _without_videos(checkpoint)
        if getattr(processor, "image_processor", None) is not None:
            processor = with_backend(processor, backend, checkpoint.path, code=checkpoint.code)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"transformers cannot build this model's processor ({reason})",
            where=checkpoint.path,
            hint=vision.command("torchvision")
            if "torchvision" in reason.lower()
            else "the folder needs the model's processor and tokenizer files next to its weights",
        ) from None
    if getattr(processor, "image_processor", None) is None:
        raise ModelError("this model's processor does not accept images", where=checkpoint.path)
    return processor


def marks_of(processor: Any, slot: int) -> list[int]:
    """The ids that its models take for an image's: the slot and, in some families, what frames it."""
    named = getattr(processor, "image_token_ids", None) or ()
    return sorted({slot, *(i for i in named if i is not None)})


def _without_videos(checkpoint: TransformersCheckpoint) -> Any:
    import transformers

    kind = _processor_class(checkpoint)
    images: Any = transformers.AutoImageProcessor
    words: Any = transformers.AutoTokenizer
    mixin: Any = transformers.ProcessorMixin

    def parts(where: Any) -> list[Any]:
        known = {
            "tokenizer": words.from_pretrained(where, trust_remote_code=False),
            "image_processor": images.from_pretrained(where, trust_remote_code=False),
        }
        return [known.get(name) for name in kind.get_attributes()]

    class WithoutVideos(made_of(kind, parts)):  # type: ignore[misc]
        """The same processor; its video processor is None."""

        def check_argument_for_proper_class(self, name: str, value: Any) -> Any:
            if value is None:
                return type(None)
            return super().check_argument_for_proper_class(name, value)

        def apply_chat_template(self, conversation: Any, *given: Any, **named: Any) -> Any:
            # SmolVLM's own asks its video processor for frames, whatever the conversation holds.
            own = mixin if kind.__name__ == "SmolVLMProcessor" else kind
            return own.apply_chat_template(self, conversation, *given, **named)

    return WithoutVideos.from_pretrained(checkpoint.path)


def _processor_class(checkpoint: TransformersCheckpoint) -> Any:
    import transformers
    from transformers.models.auto import processing_auto

    known: Any = processing_auto
    kind = checkpoint.released.model_type
    name = _named(checkpoint.path) or known.PROCESSOR_MAPPING_NAMES.get(kind)
    if name == "PixtralProcessor":
        return _pixtral()
    return getattr(transformers, str(name))


def _pixtral() -> Any:
    """Its module takes one function of sizes from a module that wants torchvision; Pillow's has it too."""
    name = "transformers.models.pixtral"
    with_tensors = f"{name}.image_processing_pixtral"
    if f"{name}.processing_pixtral" not in sys.modules and with_tensors not in sys.modules:
        sys.modules[with_tensors] = importlib.import_module(f"{name}.image_processing_pil_pixtral")
        try:
            importlib.import_module(f"{name}.processing_pixtral")
        finally:
            del sys.modules[with_tensors]
    return importlib.import_module(f"{name}.processing_pixtral").PixtralProcessor


def images_file(folder: Path) -> str:
    """The name of the file that says how images are prepared."""
    first, second = "preprocessor_config.json", "processor_config.json"
    return second if (folder / second).is_file() and not (folder / first).is_file() else first


def _named(folder: Path) -> str | None:
    """The class that the files name, as transformers looks for it."""
    for file in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        path = folder / file
        if path.is_file():
            found = read_json(path).get("processor_class")
            if found:
                return str(found)
    return None
