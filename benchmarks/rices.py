"""RICES at VQAv2's size: exact nearest neighbours of 10,000 queries among 82,783 images, 768 numbers each.

Synthetic features with clusters, so that near ties occur as among photographs. To stay under 60 s on two
cores; memory does not grow with the number of queries. A plain float64 product checks a sample of them.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emu2eval.encoders.feature_files import Half
from emu2eval.fewshot.search import Side, Table, nearest

POOL, QUERIES, WIDTH, KEEP = 82_783, 10_000, 768, 32
_BLOCK = 4096


def table(rows: int, seed: int, folder: Path) -> Table:
    """Unit vectors around 2,000 centres."""
    centres = np.random.default_rng(0).standard_normal((2_000, WIDTH), dtype=np.float32)
    chance = np.random.default_rng(seed)

    def blocks() -> Iterator[Half]:
        for start in range(0, rows, _BLOCK):
            count = min(_BLOCK, rows - start)
            block = chance.standard_normal((count, WIDTH), dtype=np.float32)
            block += centres[chance.integers(len(centres), size=count)]
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            yield block.astype(np.float16)

    return Table(rows, WIDTH, blocks(), folder)


def peak() -> float:
    """MiB, memory-mapped pages included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        pool, queries = table(POOL, 1, Path(folder)), table(QUERIES, 2, Path(folder))
        peaks = []
        for count in (QUERIES // 10, QUERIES):
            rows = np.arange(count)
            side = Side(1.0, pool, queries, np.arange(POOL), rows)
            started, worked = time.perf_counter(), time.process_time()
            best, _ = nearest([side], KEEP)
            seconds, work = time.perf_counter() - started, time.process_time() - worked
            peaks.append(peak())
            print(
                f"{count:>6,} queries among {POOL:,} x {WIDTH} on {cores} cores: {seconds:.1f} s "
                f"({work:.1f} s of work), peak {peaks[-1]:,.0f} MiB"
                + ("   (to stay under 60 s)" if count == QUERIES else "")
            )
        print(f"memory at {QUERIES:,} queries / at {QUERIES // 10:,}: {peaks[1] / peaks[0]:.2f}")
        chosen = np.arange(0, QUERIES, QUERIES // 20)
        wide = pool.rows.astype(np.float64) / pool.lengths[:, None]
        ask = queries.rows[chosen].astype(np.float64) / queries.lengths[chosen, None]
        order = np.argsort(-(ask @ wide.T), axis=1, kind="stable")[:, :KEEP]
        same = (order == best[chosen]).all(axis=1).mean()
        print(f"the same {KEEP} in the same order as plain float64: {100 * same:.0f} % of a sample")


if __name__ == "__main__":
    main()
