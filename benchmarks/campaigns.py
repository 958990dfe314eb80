"""Damaged bytes, mutated inputs and kills, in full: what came of each, counted. Repeatable by its seed.

    python benchmarks/campaigns.py [--seed N] [--only bytes mutations kills] [--count N] [--first N]
        [--minutes M]

Seed and number make the same mutation again: `--only mutations --seed 3 --first 122 --count 1`.
Ends with 1 where anything was silent, lost or asked twice, a traceback, a hang, or a meaningless exit code.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.campaigns import checkpoints, damage, kills, mutations

COUNTS = {"kills": 260, "bytes": 500, "mutations": 10_000}
MOST_MEMORY = 2048
"""MiB of the process that is given all mutated inputs, one after the other."""

Outcomes = tuple[Mapping[tuple[str, str], int], list[str]]


def _bytes(folder: Path, count: int, seed: int, first: int, minutes: float) -> Outcomes:
    found = damage.run(folder, count, seed)
    return damage.table(found), [
        f"{d.file}:{d.place} {d.outcome}: {d.note}" for d in damage.faults(found)
    ]


def _mutations(folder: Path, count: int, seed: int, first: int, minutes: float) -> Outcomes:
    until = time.monotonic() + 60 * minutes
    found = mutations.run(folder, count, seed, checkpoints.write(folder), until, first)
    faults = [
        f"{m.target} {m.number} {m.outcome} {m.verb}: {m.fault}" for m in mutations.faults(found)
    ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory {peak:,} MiB, slowest {max(m.seconds for m in found):.1f} s")
    if peak > MOST_MEMORY:
        faults.append(f"{peak:,} MiB are more than {MOST_MEMORY:,}")
    return mutations.table(found), faults


def _kills(folder: Path, count: int, seed: int, first: int, minutes: float) -> Outcomes:
    found = kills.run(folder, count, seed)
    return kills.table(found), [f"{s.name}: {s.fault}" for s in found if s.fault is not None]


# Kills fork, which wants a process without threads: they come first.
CAMPAIGNS: dict[str, Callable[[Path, int, int, int, float], Outcomes]] = {
    "kills": _kills,
    "bytes": _bytes,
    "mutations": _mutations,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=tuple(CAMPAIGNS), default=tuple(CAMPAIGNS))
    parser.add_argument("--count", type=int, help="of each, in place of the full size")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of mutations, at most")
    given = parser.parse_args()
    bad = 0
    for name in (name for name in CAMPAIGNS if name in given.only):
        with tempfile.TemporaryDirectory() as top:
            folder = Path(top) / "user"
            folder.mkdir()
            started = time.perf_counter()
            outcomes, faults = CAMPAIGNS[name](
                folder, given.count or COUNTS[name], given.seed, given.first, given.minutes
            )
            seconds = time.perf_counter() - started
        print(f"\n{name}, seed {given.seed}, {seconds:.0f} s")
        _print(outcomes)
        for fault in faults[:20]:
            print(f"  {fault}")
        print(f"{len(faults)} faults")
        bad += len(faults)
    raise SystemExit(bad > 0)


def _print(outcomes: Mapping[tuple[str, str], int]) -> None:
    columns = sorted({outcome for _, outcome in outcomes})
    total: Counter[str] = Counter()
    lines = [["", *columns]]
    for name in sorted({name for name, _ in outcomes}):
        lines.append([name, *(str(outcomes.get((name, outcome), 0)) for outcome in columns)])
    for (_, outcome), count in outcomes.items():
        total[outcome] += count
    lines.append(["all", *(str(total[outcome]) for outcome in columns)])
    for line in lines:
        print(f"  {line[0]:<28}" + "".join(f"{cell:>12}" for cell in line[1:]))


if __name__ == "__main__":
    main()
