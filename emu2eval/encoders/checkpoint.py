"""An encoder from a transformers checkpoint: CLIP, SigLIP, DINO and the like, by path or hub id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.files import refuse_adapters
from emu2eval.encoders.base import Encoder, Vectors
from emu2eval.encoders.together import ROWS, together
from emu2eval.errors import MissingExtra, ModelError, UnknownName, UserError
from emu2eval.media import images
from emu2eval.media.refusals import taking
from emu2eval.types import Image

if TYPE_CHECKING:
    import torch

_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
SETTING = "task.demonstrations.options.encoder"
_UNUSED = r"(^|\.)pooler\.|(^|\.)logit_(scale|bias)$"
"""Weights that checkpoints may lack: no feature goes through them, or it would be NaN, which is refused."""
# DINO's checkpoints hold no pooler, and it is not used: without this, transformers warns of random weights.
_LEFT_OUT: Mapping[str, Mapping[str, Any]] = {"vit": {"add_pooling_layer": False}}


_PROJECTED = ("CLIPVisionModelWithProjection",)


class CheckpointEncoder(Encoder):
    """CLIP's and SigLIP's projected image and text features; of others the class token (DINO).

    float32, on a GPU where there is one. Images are prepared as the checkpoint's own
    preprocessor says, by Pillow; preprocessing: keys of a preprocessor_config.json in place of those.
    setting: the key that names the encoder; instead: what can be done without it; both are for messages.
    """

    def __init__(
        self,
        name: str,
        preprocessing: Mapping[str, Any] | None = None,
        setting: str = SETTING,
        instead: str | None = None,
    ):
        self.name = name
        self.preprocessing = dict(preprocessing or {})
        # For messages.
        self._setting = setting
        self._way_out = instead or f"without weights: --set {setting}=thumbnail"

    def lacks(self) -> list[UserError]:
        packages = ("torch", "transformers")
        if missing := MissingExtra.of(packages, "hf", why=f"the encoder {self.name!r}"):
            return missing
        try:
            _ = self.folder
        except UserError as error:
            return [error]
        return []

    def fetch(self) -> None:
        """From the hub; what was fetched before is used as it is, without a connection."""
        if self._at_hand() is not None or MissingExtra.of(("huggingface_hub",), "hf", why=""):
            return
        from huggingface_hub import snapshot_download

        try:
            snapshot_download(self.name, allow_patterns=[*_FILES])
        except Exception as error:
            # The hub's client raises its own, its HTTP library's and the system's errors; all mean the same.
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise self._absent(
                f"is not a local folder, and the hub did not provide it ({reason})"
            ) from None

    @cached_property
    def folder(self) -> Path:
        """Where its files are. Raises ModelError where they are not on this machine."""
        path = self._at_hand()
        if path is None:
            raise self._absent("is not on this machine")
        refuse_adapters(path)
        for needed in ("config.json", "*.safetensors"):
            if next(path.glob(needed), None) is None:
                raise ModelError(
                    f"the encoder's folder has no {needed}",
                    where=path,
                    hint="use a folder written by `hf download` or `save_pretrained`; or "
                    + self._way_out,
                )
        return path

    @cached_property
    def device(self) -> torch.device:
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def identity(self) -> Mapping[str, Any]:
        from emu2eval.adapters.huggingface.backends import identity_of

        return {
            "encoder": "transformers",
            # Pillow, unless the family's images are prepared by torchvision alone.
            **identity_of(self._processor),
            "architecture": self._config.get("model_type"),
            "weights": self._digest,
            "preprocessing": self._processor.to_dict(),
            "rows": ROWS,
        }

    def prepare(self, image: Image) -> Vectors:
        # numpy, since torch would start threads of its own for each thread that prepares.
        decoded = images.load(image)
        processor = self._processor
        with taking(image, f"the image processor of {self.name}"):
            pixels = processor(images=decoded, return_tensors="np")["pixel_values"][0]
        return np.asarray(pixels, dtype=np.float32)

    def encode(self, prepared: Sequence[Vectors]) -> Vectors:
        import torch

        from emu2eval.adapters.local.devices import exact_convolutions

        with torch.inference_mode(), exact_convolutions():
            return _array(together([(torch.from_numpy(p),) for p in prepared], self._seen))

    def _seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, height, width) -> (n, width)."""
        pixels = pixels.to(self.device)
        if hasattr(self._model, "get_image_features"):
            return _pooled(self._model.get_image_features(pixel_values=pixels))
        found = self._model(pixel_values=pixels)
        if hasattr(found, "image_embeds"):
            projected: torch.Tensor = found.image_embeds
            return projected
        hidden: torch.Tensor = found.last_hidden_state
        if hidden.ndim != 3:
            raise ModelError(
                f"the features of {self._config.get('model_type')!r} have no class token",
                where=self.folder,
                hint="choose a CLIP, SigLIP or DINO checkpoint",
            )
        return hidden[:, 0]

    def texts(self, given: Sequence[str]) -> Vectors:
        import torch

        if not hasattr(self._model, "get_text_features"):
            return super().texts(given)
        longest = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            list(given),
            # Of one length, as CLIP and SigLIP were trained.
            padding="max_length",
            max_length=longest,
            truncation=True,
            return_tensors="pt",
        )
        names = [name for name in self._tokenizer.model_input_names if name in tokens]

        def read(*parts: torch.Tensor) -> torch.Tensor:
            known = {name: part.to(self.device) for name, part in zip(names, parts, strict=True)}
            return _pooled(self._model.get_text_features(**known))

        with torch.inference_mode():
            return _array(together(list(zip(*(tokens[n] for n in names), strict=True)), read))

    def close(self) -> None:
        self.__dict__.pop("_model", None)

    def __getstate__(self) -> dict[str, Any]:
        # Where it goes, its files are opened and its device is chosen anew.
        opened = {n for n, v in vars(type(self)).items() if isinstance(v, cached_property)}
        return {name: value for name, value in self.__dict__.items() if name not in opened}

    @cached_property
    def _config(self) -> dict[str, Any]:
        return read_json(self.folder / "config.json")

    @cached_property
    def _digest(self) -> str:
        """Hex sha256 over every file that decides a vector, by name: the configuration, the weights, and
        what the processor and the tokenizer read."""
        digest = hashlib.sha256()
        for file in sorted({file for pattern in _FILES for file in self.folder.glob(pattern)}):
            with file.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
            digest.update(f"{file.name}\n{found}\n".encode())
        return digest.hexdigest()

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        # Pillow's resizing is that of the original CLIP, and needs no torchvision.
        read: Any = AutoImageProcessor.from_pretrained
        local = {"local_files_only": True, "trust_remote_code": False}
        with self._explained():
            processor = read(self.folder, backend="pil", **local, **self.preprocessing)
        known = processor.valid_kwargs.__annotations__
        for key in self.preprocessing:
            if key not in known:
                # It would be ignored silently.
                raise UnknownName("key", key, known, of=f"preprocessing of {self.name}")
        return processor

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with self._explained():
            return AutoTokenizer.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False
            )

    @cached_property
    def _model(self) -> Any:
        import torch
        import transformers
        from transformers.utils import logging as their_logging

        from emu2eval.adapters.local.weights import require_all

        logging: Any = their_logging
        # A vision half with its projection, which AutoModel would leave out.
        named = next(iter(self._config.get("architectures") or ()), "")
        kind: Any = getattr(transformers, named if named in _PROJECTED else "AutoModel")
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            with self._explained():
                model, info = kind.from_pretrained(
                    self.folder,
                    dtype=torch.float32,
                    output_loading_info=True,
                    use_safetensors=True,
                    local_files_only=True,
                    trust_remote_code=False,
                    **_LEFT_OUT.get(self._config.get("model_type", ""), {}),
                )
        finally:
            if shown:
                logging.enable_progress_bar()
        require_all(model, info, self.folder, _UNUSED)
        return model.to(self.device).eval()

    def _at_hand(self) -> Path | None:
        """Its folder, or that of the files that were fetched from the hub before."""
        # Nobody's home and a name too long for a file are no folders either.
        with suppress(RuntimeError, OSError):
            path = Path(self.name).expanduser()
            if path.exists():
                return path
        from huggingface_hub import snapshot_download

        try:
            found = snapshot_download(self.name, allow_patterns=[*_FILES], local_files_only=True)
        except (OSError, ValueError):  # not there; no name of a repository
            return None
        return Path(found) if next(Path(found).glob("*.safetensors"), None) else None

    def _absent(self, says: str) -> ModelError:
        folder = self.name.rpartition("/")[2]
        return ModelError(
            f"the encoder {self.name} {says}",
            hint=f"hf download {self.name} --local-dir {folder} (with a connection), then "
            f"--set {self._setting}=./{folder}; or, {self._way_out}",
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what transformers raises about a checkpoint into a ModelError."""
        try:
            yield
        except Exception as error:
            # transformers hands on what safetensors, tokenizers and the system raise about a broken file.
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(
                f"the encoder cannot be loaded: {reason}",
                where=self.folder,
                hint="use a CLIP, SigLIP or DINO checkpoint written by `save_pretrained`; or "
                + self._way_out,
            ) from error


def _pooled(found: Any) -> torch.Tensor:
    # A tensor up to transformers 4; since 5 an output that holds it.
    pooled: torch.Tensor = getattr(found, "pooler_output", found)
    return pooled


def _array(found: torch.Tensor) -> Vectors:
    return np.asarray(found.float().cpu().numpy(), dtype=np.float32)
