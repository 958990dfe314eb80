"""A checkpoint in Hugging Face's layout: where its files are, what it is, and the digest that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.files import folder_digest, refuse_adapters
from emu2eval.errors import ModelError

PATTERNS = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
CODE = "*.py"


@dataclass(frozen=True)
class TransformersCheckpoint:
    """path: a folder with config.json. code: its own Python files may run, asked for by name."""

    path: Path
    revision: str | None = None
    code: bool = False

    @property
    def config(self) -> Any:
        """Of the model that sees and answers in words: in an omni model, the thinker's. Raises ModelError."""
        return getattr(self.released, "thinker_config", None) or self.released

    @cached_property
    def released(self) -> Any:
        """transformers' configuration. Raises ModelError where it is none that transformers knows."""
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.path, trust_remote_code=self.code)
        except Exception as error:
            # Whatever is wrong in a file of somebody else's: the first line says enough.
            reason = str(error).strip().partition("\n")[0]
            hint = None if self.code else _CODE_HINT if "trust_remote_code" in str(error) else None
            raise ModelError(
                f"transformers cannot read this model's configuration ({reason})",
                where=self.path,
                hint=hint,
            ) from None

    def said(self) -> list[Any]:
        """Its configuration, and of how it is to answer, as they stand, without transformers' defaults.

        Raises ModelError for a file that is not JSON.
        """
        own = self.path / "generation_config.json"
        return [read_json(self.path / "config.json"), *([read_json(own)] if own.is_file() else [])]

    def identity(self) -> Mapping[str, Any]:
        """What of the identity is the checkpoint's own."""
        return {"weights": folder_digest(self.path, self.code), "revision": self.revision}

    @classmethod
    def at(cls, path: Path, revision: str | None, code: bool) -> TransformersCheckpoint:
        """A local folder. Raises ModelError for one that transformers would not read alone."""
        # transformers would take the base model that adapter_config.json names, wherever it is.
        refuse_adapters(path)
        if not (path / "config.json").is_file():
            raise ModelError(
                "not a transformers checkpoint: the folder has no config.json",
                where=path,
                hint="give the folder written by `hf download` or `save_pretrained`",
            )
        return cls(path, revision, code)


_CODE_HINT = (
    "the model includes Python code; review it, then set `trust_remote_code: true` and use --trust"
)
