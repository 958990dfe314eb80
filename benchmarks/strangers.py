"""Files made by a stranger with the verbs that read them, as programs of their own: time, memory, faults.

python benchmarks/strangers.py [part of a name]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.campaigns.stranger_files import faults, strangers, try_apart


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [each for each in strangers() if wanted in each.name]
    commands, wrong = 0, 0
    slowest, largest = 0.0, 0
    for each in chosen:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            outcomes = try_apart(each, base)
            found = faults(base, outcomes)
        commands += len(outcomes)
        wrong += bool(found)
        slowest = max(slowest, *(outcome.seconds for outcome in outcomes))
        largest = max(largest, *(outcome.memory for outcome in outcomes))
        codes = " ".join(str(outcome.code) for outcome in outcomes)
        print(f"{each.name[:50]!r:52} {codes}", *found, sep="\n    " if found else " ", flush=True)
    print(
        f"{len(chosen)} files, {commands} commands, {wrong} not held; slowest {slowest:.1f} s, "
        f"largest {largest / (1 << 20):.0f} MiB"
    )
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
