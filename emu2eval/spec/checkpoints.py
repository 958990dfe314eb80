"""A checkpoint given in place of a model file: by its folder, or by its name on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emu2eval.errors import ConfigError, MissingExtra, ModelError
from emu2eval.spec import catalog
from emu2eval.spec.yamlfile import Document, read_yaml

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""A repository of the hub: owner and name."""
_CONFIGS = ("config.json", "multimodal_encoder/config.json")
"""Where a checkpoint says what it is; the second in Emu2-Gen's layout."""
_ADAPTER = "adapter_config.json"
"""Of an adapter without its base model, as PEFT saves it."""


def checkpoint_document(given: str) -> Document | None:
    """A model file for a checkpoint: the facts of the file in `models/` whose family it is, its own name.

    The folder of a PEFT adapter is its base model with it. None where `given` is something else: a name of
    a model, a file, a folder with a file. An unknown family is asked through transformers with the
    adapter's defaults. Raises ModelError for a repository that neither this machine nor the hub has,
    ConfigError for a folder that is no checkpoint.
    """
    if given in catalog.names("model") or given.endswith((".yaml", ".yml")):
        return None
    folder = Path(given).expanduser()
    if folder.is_dir():
        if (folder / "model.yaml").is_file():
            return None
        if (folder / _ADAPTER).is_file() and not (folder / "config.json").is_file():
            return _on_its_base(folder)
        config = _of_folder(folder)
        where, name = str(folder), folder.resolve().name
    elif HUB_ID.fullmatch(given) and not folder.exists():
        for document in _files():
            if _settings(document).get("checkpoint") == given:
                return _named(document, given, given.rpartition("/")[2])
        config = _of_hub(given)
        where, name = given, given.rpartition("/")[2]
    else:
        return None
    of_family = family_document(_family(config))
    if of_family is not None:
        return _named(of_family, where, name)
    data = {"name": name, "adapter": "huggingface", "settings": {"checkpoint": where}}
    return Document(folder / _CONFIGS[0] if folder.is_dir() else Path(where), data)


def family_document(family: str) -> Document | None:
    """The model file whose family it is, with the settings that hold for all its checkpoints; None = no file.

    family: transformers' model_type, or "emu2".
    """
    for document in _files():
        if document.data.get("family") == family:
            own = _settings(document)
            kept = {key: value for key, value in own.items() if key not in _ITS_OWN}
            if own.get("layout") == "chat":
                del kept["layout"]  # a base model of the family has no template
            return replace(document, data={**document.data, "settings": kept})
    return None


def _on_its_base(folder: Path) -> Document:
    """The base model that an adapter of PEFT was trained on, with the adapter. Raises ConfigError."""
    named = _read(folder / _ADAPTER).get("base_model_name_or_path")
    base = named if isinstance(named, str) else ""
    document = checkpoint_document(base) if base else None
    if document is None:
        raise ConfigError(
            f"the base model of this adapter, {base or 'which it does not name'}, was not found",
            where=folder,
            hint=f"--model PATH_OF_THE_BASE_MODEL --set model.settings.adapter={folder}",
        )
    settings = {**_settings(document), "adapter": str(folder)}
    return replace(
        document, data={**document.data, "name": folder.resolve().name, "settings": settings}
    )


_ITS_OWN = frozenset({"checkpoint", "revision", "variant", "max_positions"})
"""Settings that say something of one checkpoint, not of its family."""


def _named(document: Document, where: str, name: str) -> Document:
    settings = {**_settings(document), "checkpoint": where}
    data = {"name": name, "adapter": document.data["adapter"], "settings": settings}
    return replace(document, data=data)


def _settings(document: Document) -> Mapping[str, Any]:
    return document.data.get("settings") or {}


def _files() -> list[Document]:
    return [read_yaml(path) for path in catalog.names("model").values()]


def _family(config: Mapping[str, Any]) -> str:
    """transformers' model_type; or "emu2", whose configurations have none, or name a class of their own."""
    classes = config.get("architectures")
    if config.get("model") == "emu2" or (isinstance(classes, list) and "EmuForCausalLM" in classes):
        return "emu2"
    return str(config.get("model_type"))


def _of_folder(folder: Path) -> Mapping[str, Any]:
    for name in _CONFIGS:
        if (folder / name).is_file():
            return _read(folder / name)
    raise ConfigError(
        "not a model folder: it has neither a model.yaml nor a checkpoint's config.json",
        where=folder,
        hint="give the folder that `save_pretrained` or `hf download` wrote, the path of a .yaml file, "
        "or a name from: emu2eval ls models",
    )


def _of_hub(name: str) -> Mapping[str, Any]:
    """The configuration of a repository, fetched if it is not on this machine."""
    if find_spec("huggingface_hub") is None:
        raise MissingExtra("huggingface_hub", "hf", why=f"the model {name} on the hub")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for local in (True, False):
        for file in _CONFIGS:
            try:
                return _read(Path(hf_hub_download(name, file, local_files_only=local)))
            except ConfigError:
                raise
            except EntryNotFoundError as error:
                if not local and isinstance(error, LocalEntryNotFoundError):
                    break  # the hub was not reached
            except Exception:  # the hub's client raises its own, httpx's and the system's
                break
    raise ModelError(
        f"{name} is neither a shipped model nor a folder, and its config.json is not available from the hub",
        hint=f"hf download {name} --local-dir {name.rpartition('/')[2]} (with a connection), then "
        f"--model ./{name.rpartition('/')[2]}; or a name from: emu2eval ls models",
    )


def _read(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        data = None
    if not isinstance(data, Mapping):
        raise ConfigError(
            "not a checkpoint configuration: the file is not a JSON object", where=file
        )
    return data
