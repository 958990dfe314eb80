"""How a model's answers are generated, in words, beside what its checkpoint recommends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.settings import LocalSettings
from emu2eval.errors import ModelError

FILE = "generation_config.json"
_SAMPLING = ("temperature", "top_p", "top_k")
_TOLD = ("do_sample", *_SAMPLING, "min_p", "repetition_penalty", "num_beams", "max_new_tokens")
"""What of a recommendation changes an answer."""


def described(settings: LocalSettings, folder: Path | None) -> str:
    """One sentence. folder: the checkpoint's, where there is one.

    >>> described(LocalSettings(checkpoint="x", temperature=0.7, top_k=20), None)
    'drawn (temperature 0.7, top_k 20)'
    """
    said = _own(settings)
    known = _recommended(folder) if folder is not None else {}
    if known:
        listed = ", ".join(f"{name} {str(value).lower()}" for name, value in known.items())
        said += f"; {FILE} recommends {listed}, which is not applied automatically"
        if known.get("do_sample") and settings.sampling is None:
            taken = {name: known[name] for name in _SAMPLING if known.get(name)}
            given = taken if "temperature" in taken else {"do_sample": "true", **taken}
            keys = " ".join(f"model.settings.{name}={value}" for name, value in given.items())
            said += f" (to use it: --set {keys})"
    return said


def _own(settings: LocalSettings) -> str:
    sampling = settings.sampling
    if sampling is None:
        said = "most likely (greedy)"
        if settings.beams > 1:
            said = f"the best of {settings.beams} beams, or the number that the task sets"
    else:
        said = f"sampled ({', '.join(_parts(settings))})"
    if settings.max_new_tokens is not None:
        said += f", of at most {settings.max_new_tokens} tokens"
    return said


def _parts(settings: LocalSettings) -> Iterator[str]:
    sampling = settings.sampling
    assert sampling is not None
    yield f"temperature {sampling.temperature:g}"
    for name in ("top_p", "top_k", "seed"):
        if (value := getattr(settings, name)) is not None:
            yield f"{name} {value}"


def _recommended(folder: Path) -> Mapping[str, Any]:
    found: Any = None
    with suppress(ModelError, OSError):
        found = read_json(folder / FILE)
    if not isinstance(found, Mapping):
        return {}
    return {name: found[name] for name in _TOLD if found.get(name) is not None}
