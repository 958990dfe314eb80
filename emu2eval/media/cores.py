"""How many threads prepare images at once: as many as there are cores for this process."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

MOST = 32
"""Threads beyond which nothing is gained on machines of many cores: each holds a decoded image."""
_CGROUP = Path("/sys/fs/cgroup")


@cache
def cores() -> int:
    """Cores that this process may use: by its affinity and by what a container allows (cgroup)."""
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        found = os.cpu_count() or 1
    return max(1, min(found, MOST, allowed(_CGROUP) or found))


def allowed(root: Path) -> int | None:
    """Cores of time that a control group may take, rounded up; None = no bound that can be read."""
    files = (
        ("cpu.max",),
        ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
    )  # version 2, version 1
    for names in files:
        try:
            quota, period = " ".join(
                (root / name).read_text(encoding="utf-8") for name in names
            ).split()
            most = int(quota)
            return -(-most // int(period)) if most > 0 else None
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return None
