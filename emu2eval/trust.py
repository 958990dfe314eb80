"""Whose code may be named: a file's own folder and the working directory bring code, a stored record none.

Task and model files name parts as `module:attr`. What is built in or installed as an entry point is always
known; everything else is looked for beside the file and where the user stands, before anything is imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from emu2eval.errors import ConfigError, UserError

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OURS = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Naming:
    """Who names a part: a file in `folder`, or a record that somebody stored."""

    folder: Path | None = None
    stored: bool = False


_naming: ContextVar[Naming] = ContextVar("naming")
_trusting: ContextVar[bool] = ContextVar("trusting")
_NOBODY = Naming()


@contextmanager
def named_by(folder: Path | None, stored: bool = False) -> Iterator[None]:
    """Parts are named by a file in this folder; stored: by the record of a run."""
    token = _naming.set(Naming(folder, stored))
    try:
        yield
    finally:
        _naming.reset(token)


@contextmanager
def trusting(consent: bool = True) -> Iterator[None]:
    """With consent, any module that Python finds may be named, also by a record."""
    token = _trusting.set(consent or _trusting.get(False))
    try:
        yield
    finally:
        _trusting.reset(token)


def check_module(kind: str, name: str, module: str, where: str | None) -> None:
    """Raises ConfigError where this module may not be imported to find a part. Imports nothing."""
    if _trusting.get(False):
        return
    naming = _naming.get(_NOBODY)
    if naming.stored:
        raise ConfigError(
            f"the record of this run names code: the {kind} {name!r}",
            where=where,
            hint="a stored run uses what is built in or installed as an entry point; --trust imports "
            "this module as well, which runs its code",
        )
    top = module.partition(".")[0]
    if top == _OURS:
        return
    spec = _spec(top)
    if spec is None and naming.folder is not None:
        # Behind everything else, so that a file of a task never stands in for an installed module.
        sys.path.append(str(naming.folder.resolve()))
        importlib.invalidate_caches()
        spec = _spec(top)
    if spec is not None and not _is_near(spec, naming):
        place = spec.origin or "built into Python"
        raise ConfigError(
            f"the {kind} {name!r} is neither beside the file that names it nor in this folder: {place}",
            where=where,
            hint="name a module of your own; an installed package offers its parts as entry points; "
            "--trust imports any module",
        )


def check_found(kind: str, name: str, module: ModuleType, found: Any, where: str | None) -> None:
    """Raises ConfigError for a function that the module only imported, such as `mine:os.system`.

    A class may come from elsewhere: it is checked to be of the kind.
    """
    if _trusting.get(False) or isinstance(found, type):
        return
    home = getattr(found, "__module__", None)
    spec = _spec(str(home).partition(".")[0]) if home is not None else None
    near = spec is not None and _is_near(spec, _naming.get(_NOBODY))
    if home != module.__name__ and not near:
        raise ConfigError(
            f"the {kind} {name!r} is no function of {module.__name__}, which only imports it",
            where=where,
            hint="define the function there; --trust takes it as it is",
        )


def _spec(top: str) -> ModuleSpec | None:
    known = sys.modules.get(top)
    if known is not None:
        return known.__spec__ or ModuleSpec(top, None, origin=getattr(known, "__file__", None))
    try:
        return find_spec(top)
    except (ImportError, ValueError) as error:
        raise UserError(f"the module {top!r} cannot be looked for: {error}") from None


def _is_near(spec: ModuleSpec, naming: Naming) -> bool:
    places = [Path(p) for p in spec.submodule_search_locations or ()]
    if spec.origin is not None and spec.has_location:
        places.append(Path(spec.origin))
    roots = [Path.cwd(), *([naming.folder] if naming.folder is not None else [])]
    return bool(places) and all(any(_is_below(p, root) for root in roots) for p in places)


def _is_below(path: Path, root: Path) -> bool:
    whole, top = path.resolve(), root.resolve()
    if not whole.is_relative_to(top):
        return False
    return not _INSTALLED & set(whole.relative_to(top).parts)
