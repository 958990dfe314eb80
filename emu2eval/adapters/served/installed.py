"""Which engine this machine has: its program, its version, and the GPUs that this process may use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from emu2eval.adapters.served.engines import Engine
from emu2eval.errors import MissingExtra, ModelError

PATIENCE = 120.0
"""Seconds that a program may take to say its version: it may import torch for that."""

_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_SHEBANG = re.compile(rb"#!\s*(/\S*python\S*)\s*$")
_NUMBER = re.compile(r"\d\S*(?: \([0-9a-f]{6,}\))?")


def find_program(engine: Engine) -> str | None:
    """The path of its program: on PATH, else beside this Python; None where there is none."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(engine.program) or shutil.which(engine.program, path=beside)


def program_of(engine: Engine) -> str:
    """`find_program`. Raises MissingExtra with the command that installs it."""
    found = find_program(engine)
    if found is None:
        raise MissingExtra(
            engine.package,
            "",
            why=f"--engine {engine.name}",
            hint=f"{engine.install}; in an environment of its own, name that in PATH: "
            "PATH=/path/to/its/bin:$PATH emu2eval run …",
        )
    return found


def version_of(engine: Engine, program: str) -> str:
    """The engine's version, as its package or its program says. Raises ModelError where neither does."""
    python = _python_of(Path(program))
    if python is not None:
        # Without importing it, which takes seconds.
        ask = f"import importlib.metadata as m; print(m.version({engine.package!r}))"
        said = _output([python, "-c", ask])
        if said is not None and said.strip():
            return said.strip()
    said = _output([program, *engine.version])
    found = _NUMBER.search(said or "")
    if found is None:
        raise ModelError(
            f"{engine.program} does not say its version",
            where=program,
            hint=f"check that it runs: {engine.program} {' '.join(engine.version)}",
        )
    return found[0]


def _python_of(program: Path) -> str | None:
    """The interpreter that a script of a Python package names in its first line."""
    try:
        with program.open("rb") as file:
            found = _SHEBANG.match(file.readline(512).rstrip())
    except OSError:
        return None
    return os.fsdecode(found[1]) if found is not None else None


def _output(command: list[str]) -> str | None:
    """What a program prints; None where it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            cwd=Path(
                command[0]
            ).parent,  # not among modules that happen to lie where the user stands
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout or done.stderr) if done.returncode == 0 else None


def gpus() -> int:
    """GPUs that this process may use; 0 where none are known."""
    listed = _visible()
    return sum(_all_cards().values()) if listed is None else len(listed)


def cards() -> dict[str, int]:
    """Names of the GPUs that this process may use, as far as nvidia-smi knows them."""
    listed = _visible()
    if listed is None:
        return _all_cards()
    # By number, or by the beginning of what is unique to them.
    return _all_cards("--id", ",".join(listed)) if listed else {}


def _visible() -> list[str] | None:
    """The GPUs that the environment names; None where it says nothing."""
    for name in _VISIBLE:
        listed = os.environ.get(name)
        if listed is not None:
            known = [each.strip() for each in listed.split(",")]
            return [each for each in known if each not in ("", "-1", "NoDevFiles")]
    return None


def _all_cards(*which: str) -> dict[str, int]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    said = _output([program, "--query-gpu=name", "--format=csv,noheader", *which]) or ""
    return dict(Counter(line.strip() for line in said.splitlines() if line.strip()))


def environment() -> dict[str, str]:
    """What a server is given of ours: without keys that it would ask requests for, and without settings that
    no run would record. Weights are on this machine, so that it need not look elsewhere."""
    found = {
        name: value
        for name, value in os.environ.items()
        if name not in _KEYS and not name.startswith("LLAMA_ARG_")
    }
    for name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS"):
        found.setdefault(name, "1")
    return found


_KEYS = frozenset({"VLLM_API_KEY", "LLAMA_API_KEY", "SGLANG_API_KEY"})
