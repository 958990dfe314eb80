"""`emu2eval check`: the installation, the files, one task's data, or an adapter's behaviour."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from emu2eval import registry
from emu2eval.adapters.base import of_adapter
from emu2eval.adapters.conformance import Finding, raised
from emu2eval.adapters.conformance import check as conform
from emu2eval.adapters.huggingface import vision
from emu2eval.adapters.served.checkpoint import is_gguf
from emu2eval.adapters.served.engines import ENGINES
from emu2eval.adapters.served.installed import find_program
from emu2eval.doctor import task_check
from emu2eval.doctor.file_check import model_faults, task_faults
from emu2eval.doctor.task_check import tried
from emu2eval.engine.models import open_model
from emu2eval.errors import EXTRAS, ConfigError, PartError, raise_together
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes, read_file
from emu2eval.spec.model import load_model, model_document
from emu2eval.spec.task import load_task
from emu2eval.trust import trusting


def findings(listed: Iterable[Finding]) -> tuple[RenderableType, bool]:
    """A table of findings, and whether all hold."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")  # a path that is cut short helps nobody
    good = True
    for finding in listed:
        good &= finding.holds
        mark = Text("ok", style="green") if finding.holds else Text("no", style="bold red")
        if finding.holds and finding.warns:
            mark = Text("!", style="bold yellow")
        table.add_row(mark, Text(finding.rule), Text(finding.seen, style="dim"))
    return table, good


def check_all(out: Path | None = None) -> Iterator[Finding]:
    """Every task and model file that is shipped, the extras, Java, the results folder, the data root."""
    for name in catalog.names("task"):
        yield tried(f"task {name}", partial(_task_file, name))
    for name in catalog.names("model"):
        yield tried(f"model {name}", partial(_model_file, name))
    for extra, packages in EXTRAS.items():
        if extra == "vision":
            yield _vision()
            continue
        missing = [package for package in packages if find_spec(package) is None]
        # An extra is a choice: one that is missing is no fault.
        seen = (
            f"pip install 'emu2eval[{extra}]' for {', '.join(missing)}" if missing else "installed"
        )
        yield Finding(f"extra {extra}", True, seen)
    for name, engine in ENGINES.items():
        found = find_program(engine)
        yield Finding(f"engine {name}", True, found or f"not installed; {engine.install}")
    yield Finding("java", True, shutil.which("java") or "not installed; caption metrics need it")
    yield _writable(out or catalog.results_root())
    root = catalog.data_root()
    yield Finding(
        "data root", True, f"{root.resolve()}" + ("" if root.is_dir() else " (does not exist)")
    )


def check_task(name: str, source: str | None = None, **asked: Any) -> Iterator[Finding]:
    """One task, as a run would meet it: see `task_check`."""
    yield from _code("task", name)
    yield from task_check.check_task(name, source, **asked)


def check_model(
    name: str,
    device: str | None = None,
    changes: Changes | None = None,
    engine: str | None = None,
) -> Iterator[Finding]:
    """A model's file, how it answers, and its adapter's behaviour. device: on which it runs; engine: which
    serving engine runs it instead, started for it."""
    if not is_gguf(Path(name)):  # which needs no file
        yield from _code("model", name)
        faults = model_faults(name)
        yield from (Finding(f"model {name}", False, str(fault)) for fault in faults)
        if faults:
            return
    adapter = open_model(name, changes or Changes(), device, engine=engine).adapter
    with of_adapter(adapter):
        told = adapter.about() if not adapter.lacks() else {}
    for topic, text in told.items():
        yield Finding(topic, True, text)
    yield from conform(adapter)


def check_adapter(name: str) -> Iterator[Finding]:
    """The behaviour of an adapter by name or module:attr, with its default settings.

    Raises ConfigError where it does not exist or has no defaults.
    """
    with trusting():  # the user names it, not a file
        factory = registry.find("adapter", name)
    needed = [option.name for option in registry.declared(factory) if option.required]
    if needed:
        raise ConfigError(
            f"adapter {name} needs the option {' and '.join(map(repr, needed))}",
            hint="write a model file with its settings: emu2eval check --model ./FILE.yaml",
        )
    try:
        adapter = registry.bound("adapter", name, factory)()
    except PartError as error:
        yield Finding("can be made", False, raised(error.__cause__ or error))
        return
    yield from conform(adapter)


_CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_NAMING = frozenset(
    {"adapter", "chooser", "clean", "encoder", "format", "kind", "network", "reader", "scorer"}
)
"""Keys under which a part may be named by `module:attr`."""


def _code(kind: str, name: str) -> Iterator[Finding]:
    """The code that a file names, told before any of it is imported."""
    document = model_document(name) if kind == "model" else read_file(kind, name)
    named = sorted(set(_named(document.data)))
    if named:
        yield Finding(f"code that {document.path} names", True, ", ".join(named))


def _named(data: Any, key: str = "") -> Iterator[str]:
    if isinstance(data, Mapping):
        for inner, value in data.items():
            yield from _named(value, str(inner))
    elif isinstance(data, list):
        for value in data:
            yield from _named(value, key)
    elif isinstance(data, str) and key in _NAMING and _CODE.fullmatch(data):
        yield data


def _task_file(name: str) -> str:
    raise_together(task_faults(name))
    return f"protocols {', '.join(load_task(name).spec.protocols)}"


def _model_file(name: str) -> str:
    return load_model(name).adapter


def _vision() -> Finding:
    """Its packages are imported: one of another torch breaks every model of transformers."""
    missing = [name for name in vision.PACKAGES if find_spec(name) is None]
    for name in vision.PACKAGES:
        if error := vision.broken(name):
            return Finding("extra vision", False, str(error))
    seen = f"{vision.command(*missing)} for models that need it" if missing else "installed"
    return Finding("extra vision", True, seen)


def _writable(folder: Path) -> Finding:
    rule = "results folder"
    parent = folder
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        return Finding(rule, False, f"{folder.resolve()}: {error.strerror}")
    free = os.statvfs(parent)
    gigabytes = free.f_bavail * free.f_frsize / 2**30
    return Finding(rule, True, f"{folder.resolve()}, {gigabytes:,.0f} GiB free")
