"""How long the command line takes to answer, as whole processes: `--help`, `ls tasks`."""

from __future__ import annotations

import subprocess
import sys
import time

REPEATS = 7


def best(arguments: list[str]) -> float:
    """Seconds of the fastest of several starts; the first fills the file cache."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    bare = best(["-c", "pass"])
    print(f"python alone        {bare:.3f} s")
    for verb in (["--help"], ["ls", "tasks"], ["ls", "models"]):
        taken = best(["-m", "emu2eval.cli", *verb])
        print(f"emu2eval {' '.join(verb):<10} {taken:.3f} s   (to stay under 0.3)")


if __name__ == "__main__":
    main()
