"""Memory as people write it: "24GiB,24GiB,cpu:64GiB" and back."""

from __future__ import annotations

import re
import sys

from emu2eval.errors import ConfigError

Device = int | str
"""A GPU's number, "cpu" or "disk": what accelerate's device maps hold."""

KIB, MIB, GIB, TIB = (1 << shift for shift in (10, 20, 30, 40))
_UNITS = {
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)")
_HINT = "one size for each GPU, such as 24GiB,24GiB or 4x24GiB; then, if wanted, cpu:64GiB and disk"

TEXT = 32
"""Text tokens taken for one demonstration or question, unless told otherwise."""


def prompt_positions(
    n_query: int, shots: int, new_tokens: int, images: int = 1, text_tokens: int = TEXT
) -> int:
    """Of a prompt with so many demonstrations and its answer; n_query: positions of an image."""
    # [IMG] and [/IMG] around each image; one <s>.
    each = images * (n_query + 2) + text_tokens
    return 1 + (shots + 1) * each + new_tokens


def parse_memory(text: str) -> dict[Device, int]:
    """GPUs by number, in order, then "cpu" and "disk"; bytes. Raises ConfigError.

    >>> parse_memory("2x80GB,cpu:1.5GiB,disk")[1], parse_memory("24GiB,cpu:1.5GiB")["cpu"]
    (80000000000, 1610612736)
    """
    budgets: dict[Device, int] = {}
    gpus = 0
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, size = entry.rpartition(":") if ":" in entry else ("", "", entry)
        name = name.strip().lower()
        if entry.lower() in ("disk", "cpu"):
            name, size = entry.lower(), ""
        if name in ("cpu", "disk"):
            if name == "cpu" and not size.strip():
                raise ConfigError(f"memory {text!r}: cpu needs a size", hint="such as cpu:64GiB")
            if name in budgets:
                raise ConfigError(f"memory {text!r} names {name} twice", hint=_HINT)
            budgets[name] = parse_size(size, text) if size.strip() else sys.maxsize
        elif name == "":
            count, times, each = size.partition("x")
            many = int(count) if times and count.strip().isdigit() else 1
            for _ in range(many):
                budgets[gpus] = parse_size(each if times else size, text)
                gpus += 1
        elif name.isdigit() and int(name) == gpus:
            budgets[gpus] = parse_size(size, text)
            gpus += 1
        else:
            raise ConfigError(f"memory {text!r}: {name!r} is no device that is next", hint=_HINT)
    if not gpus and "cpu" not in budgets:
        raise ConfigError(f"memory {text!r} names no device that computes", hint=_HINT)
    ordered = [d for d in budgets if isinstance(d, int)] + [
        d for d in ("cpu", "disk") if d in budgets
    ]
    return {device: budgets[device] for device in ordered}


def parse_size(text: str, whole: str | None = None) -> int:
    """Bytes of "24GiB" (1024³ each) or "24GB" (1000³ each). Raises ConfigError."""
    match = _SIZE.fullmatch(text.strip())
    unit = match.group(2).lower() if match else ""
    if match is None or unit not in _UNITS or not float(match.group(1)):
        inside = (
            f"memory {whole!r}: " if whole is not None and whole.strip() != text.strip() else ""
        )
        raise ConfigError(f"{inside}{text.strip()!r} is no size of memory", hint=_HINT)
    return int(float(match.group(1)) * _UNITS[unit])


def gib(size: int) -> str:
    """
    >>> gib(15 * 1024**3)
    '15.0 GiB'
    """
    return f"{size / GIB:,.1f} GiB"
