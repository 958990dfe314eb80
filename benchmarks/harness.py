"""What the harness itself costs: samples a second and memory, with a baseline that answers at once.

Each size runs in a process of its own on one core; the data is easy-VQA, 4 shots, every image digested
and every answer logged. The 50,000 samples are the 9,673 questions over several trials.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = ((1_000, 1), (9_673, 1), (9_673, 5))


def one(limit: int, trials: int) -> None:
    """Runs one size and prints what it took as JSON."""
    import resource

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from emu2eval import evaluate

    with tempfile.TemporaryDirectory() as folder:
        # Reads the data and digests the images of a first sample, so that the rest is the loop.
        evaluate("easy-vqa", "most-common", shots=[4], limit=1, out=Path(folder) / "first")
        started = time.perf_counter()
        (result,) = evaluate(
            "easy-vqa",
            "most-common",
            shots=[4],
            limit=limit,
            trials=trials,
            out=Path(folder) / "runs",
        )
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"n": result.rows[0].n, "seconds": seconds, "peak_mib": peak}))


def main() -> None:
    if len(sys.argv) == 3:
        one(int(sys.argv[1]), int(sys.argv[2]))
        return
    peaks = []
    for limit, trials in SIZES:
        done = subprocess.run(
            [sys.executable, __file__, str(limit), str(trials)],
            check=True,
            capture_output=True,
            text=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        peaks.append(found["peak_mib"])
        rate = found["n"] / found["seconds"]
        print(
            f"{found['n']:>6,} samples at 4 shots: {rate:>6,.0f} a second with reading and scoring, "
            f"peak {found['peak_mib']:,.0f} MiB"
        )
    print(f"memory at 48,365 samples / at 1,000: {peaks[-1] / peaks[0]:.2f}   (to stay near 1)")


if __name__ == "__main__":
    main()
