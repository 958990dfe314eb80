"""Whose code may be named: a file's own folder and the working directory bring code, a stored record none.

Task and model files name parts as `module:attr`. What is built in or installed as an entry point is always
known, and so are the modules of the program that calls us; everything else is looked for beside the file and
where the user stands, before anything is imported.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from sysconfig import get_path
from types import ModuleType
from typing import Any

from emu2eval.errors import ConfigError, UserError

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OURS = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Naming:
    """Who names a part: a file in `folder`, or a record that somebody stored. said: the user, with --set."""

    folder: Path | None = None
    stored: bool = False
    said: bool = False


_naming: ContextVar[Naming] = ContextVar("naming")
_trusting: ContextVar[bool] = ContextVar("trusting")
_NOBODY = Naming()


@contextmanager
def named_by(folder: Path | None, stored: bool = False, said: bool = False) -> Iterator[None]:
    """Parts are named by a file in this folder; stored: by the record of a run; said: by the user."""
    token = _naming.set(Naming(folder, stored, said))
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


def trusted() -> bool:
    """The user said that files are trusted."""
    return _trusting.get(False)


def check_checkpoint_code() -> None:
    """Raises ConfigError where a file wants a checkpoint's Python code run, and the user did not say so."""
    if not _trusting.get(False):
        raise ConfigError(
            "`trust_remote_code: true` would run Python files that come with the checkpoint",
            hint="review them, then use --trust on the command line or `with emu2eval.trust.trusting():` in "
            "Python; to do without them, remove the setting",
        )


def check_engine_code(options: Sequence[str]) -> None:
    """Raises ConfigError where options of a serving engine bring code or open files, and nobody said so."""
    if not _trusting.get(False):
        raise ConfigError(
            f"{' and '.join(options)} would let the engine run code, or read files, that are not its own",
            where=f"settings.options.{options[0]}",
            hint="review them, then use --trust; to do without, remove them",
        )


_CODE = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):[A-Za-z_]\w*(?:\.\w+)*")


def check_no_code(values: Any, folder: Path, where: str) -> None:
    """Raises ConfigError where a text in a value names code, as `module:attr` of a module that is there.

    folder: where its file stands. For files that travel without the code that they would name.
    """
    if _trusting.get(False):
        return
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            check_no_code(value, folder, where)
    elif isinstance(values, str) and (found := _CODE.fullmatch(values)):
        top = found[1].partition(".")[0]
        near = (place / name for place in (folder, Path.cwd()) for name in (top, f"{top}.py"))
        # What looks like it and is none, such as the tag of a model: llama:latest.
        if _spec(top) is not None or any(path.exists() for path in near):
            raise ConfigError(
                f"this file names code: {values!r}",
                where=where,
                hint="name it in a task or model file of your own, and use that file here; --trust imports "
                "this module, which runs its code",
            )


def check_module(kind: str, name: str, module: str, where: str | None) -> None:
    """Raises ConfigError where this module may not be imported to find a part. Imports nothing."""
    if _trusting.get(False):
        return
    naming = _naming.get(_NOBODY)
    if naming.stored and not _is_of_this_program(module):
        raise _names_code(kind, name, where)
    top = module.partition(".")[0]
    if top in (_OURS, "__main__") or _is_of_this_program(module):
        return
    spec = _spec(module) if module in sys.modules else _spec(top)
    if spec is None and naming.folder is not None:
        # Behind everything else, so that a file of a task never stands in for an installed module.
        sys.path.append(str(naming.folder.resolve()))
        importlib.invalidate_caches()
        spec = _spec(top)
    if spec is not None and not _is_near(spec, naming):
        place = spec.origin or "built into Python"
        raise ConfigError(
            f"the {kind} {name!r} is neither next to the file that names it nor in this folder: {place}",
            where=where,
            hint="use a module of your own, or an entry point of an installed package; --trust imports any "
            "module",
        )


def find_script(kind: str, name: str, script: str, where: str | None) -> Path:
    """The Python file that a part's name holds, such as `metric.py:f1`: beside the file that names it, else
    in this folder. Reads nothing. Raises ConfigError where it is not there, or may not be run."""
    naming = _naming.get(_NOBODY)
    if naming.stored and not _trusting.get(False):
        raise _names_code(kind, name, where)
    beside = [] if naming.folder is None or naming.said else [naming.folder]
    path = next((p for f in (*beside, Path.cwd()) if (p := f / script).is_file()), None)
    if path is None:
        raise ConfigError(
            f"the {kind} {name!r} is in a file that does not exist: {script}",
            where=where,
            hint="give the path of the .py file, a colon, and a name defined in it",
        )
    roots = (Path.cwd(), *beside)
    near = any(_is_below(path, root) for root in roots)
    if not (near or naming.said or _trusting.get(False)):
        raise ConfigError(
            f"the {kind} {name!r} is neither next to the file that names it nor in this folder: {path}",
            where=where,
            hint="name it on the command line, or use --trust",
        )
    return path.resolve()


def check_found(kind: str, name: str, module: ModuleType, found: Any, where: str | None) -> None:
    """Raises ConfigError for a function that the module only imported, such as `mine:os.system`, and for any
    function that a record names.

    A class may come from elsewhere: it is checked to be of the kind.
    """
    if _trusting.get(False) or isinstance(found, type):
        return
    if _naming.get(_NOBODY).stored:
        raise _names_code(kind, name, where)
    home = getattr(found, "__module__", None)
    spec = _spec(str(home)) if home in sys.modules else None
    near = spec is not None and _is_near(spec, _naming.get(_NOBODY))
    if home != module.__name__ and not near and not _is_of_this_program(str(home)):
        raise ConfigError(
            f"the {kind} {name!r} is not defined in {module.__name__}, which only imports it",
            where=where,
            hint="define the function there; --trust accepts it as it is",
        )


def _names_code(kind: str, name: str, where: str | None) -> ConfigError:
    return ConfigError(
        f"the record of this run names code: the {kind} {name!r}",
        where=where,
        hint="stored runs may use only built-in parts and installed entry points; --trust also imports this "
        "module, which runs its code",
    )


def _spec(name: str) -> ModuleSpec | None:
    """Of a module that was imported, or of a top-level name, which is not imported for it."""
    known = sys.modules.get(name)
    if known is not None and known.__spec__ is not None:
        return known.__spec__
    try:
        return find_spec(name)
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot look up the module {name!r}: {error}") from None


def _is_of_this_program(module: str) -> bool:
    """Whether whoever calls us has imported it already, and it is neither Python's own nor installed."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return False
    path = Path(file).resolve()
    own = [Path(get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    return not _INSTALLED & set(path.parts) and not any(path.is_relative_to(p) for p in own)


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
