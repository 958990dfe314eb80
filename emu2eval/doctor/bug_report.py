"""`emu2eval check --report`: what a bug report needs of a machine, in one block to paste; no keys."""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import emu2eval
from emu2eval.adapters.conformance import Finding
from emu2eval.errors import EXTRAS, UserError
from emu2eval.spec.secrets import scrubbed

_CORE = ("numpy", "pillow", "msgspec", "pyyaml", "typer", "rich", "safetensors", "easy-vqa")
_SETTINGS = re.compile(
    r"EMU2EVAL_|HF_|TRANSFORMERS_|CUDA_|PYTORCH_|HIP_|SLURM_JOB_ID|OMP_NUM_THREADS"
)

Asked = Mapping[str, Callable[[], Iterable[Finding]]]


def bug_report(asked: Asked) -> str:
    """Versions, platform, devices and extras, then what was found of each thing that was asked about.

    asked: such as "task vqav2" -> what gives its findings; an error of it is told in place of them.
    """
    lines = [f"{topic + ':':<13}{said}" for topic, said in _machine()]
    for name, findings in asked.items():
        lines += ["", name, *_told(findings)]
    return private("\n".join(lines)) + "\n"


def private(text: str, *, home: Path | None = None, user: str | None = None) -> str:
    """The text without keys, the home folder and the user's name in a path.

    >>> private("/home/ann/x, /data/ann/y", home=Path("/home/ann"), user="ann")
    '~/x, /data/USER/y'
    """
    text = scrubbed(text)
    named = {str(Path.cwd()): ".", str(home or Path.home()): "~"}
    for folder, shown in sorted(named.items(), key=lambda pair: -len(pair[0])):
        if len(folder) > 1:
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", shown, text)
    name = re.escape(user or _user())
    return re.sub(rf"(?<=[/\\]){name}(?=[/\\\s]|$)", "USER", text) if name else text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return ""


def _machine() -> Iterator[tuple[str, str]]:
    yield "emu2eval", emu2eval.__version__
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "platform", f"{platform.platform()}, {os.cpu_count()} processors"
    yield "encoding", f"{sys.getfilesystemencoding()}, output {sys.stdout.encoding}"
    yield "core", ", ".join(f"{name} {_version(name) or 'missing'}" for name in _CORE)
    for extra, packages in EXTRAS.items():
        found = {name: _version(name) for name in packages}
        if any(found.values()):
            yield extra, ", ".join(f"{name} {has or 'missing'}" for name, has in found.items())
    absent = [e for e, names in EXTRAS.items() if not any(map(_version, names))]
    yield "not there", ", ".join(absent) or "no extra"
    yield "devices", "; ".join(_devices())
    yield "java", "installed" if shutil.which("java") else "not installed"
    # Names alone: a value may be a key, or say who somebody is.
    settings = sorted(name for name in os.environ if _SETTINGS.match(name))
    yield "variables", ", ".join(settings) or "none that matter"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> Iterator[str]:
    if find_spec("torch") is None:
        yield "torch is not installed"
        return
    try:
        import torch
    except Exception as error:  # a broken installation is just what a report is about
        yield f"torch cannot be imported ({type(error).__name__}: {error})"
        return
    backend = torch.version.cuda or getattr(torch.version, "hip", None)
    if backend is None or not torch.cuda.is_available():
        yield "the CPU alone" if backend is None else f"no GPU for CUDA or HIP {backend}"
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        yield f"cuda:{number} {found.name}, {found.total_memory / 2**30:.0f} GiB, {backend}"
    if torch.backends.mps.is_available():
        yield "mps"


def _told(findings: Callable[[], Iterable[Finding]]) -> Iterator[str]:
    try:
        for each in findings():
            mark = "no" if not each.holds else "!" if each.warns else "ok"
            yield f"  {mark:<3}{each.rule}: {' '.join(each.seen.split())}".rstrip(": ")
    except Exception as error:  # whatever it is, it belongs into the report
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        yield from (f"  {line}" for line in said.splitlines())
