"""Every benchmark in a process of its own, then the ratios that promises rest on in one table.

    python benchmarks [--only planning images] [--quick]

A file that knows no --quick runs only without it. Not among them: what needs a GPU or hours, see APART.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import HEADLINES, arguments, headlines

HERE = Path(__file__).parent
APART = {"gpu", "campaigns", "generation", "peers"}
PARTS = {"measuring", "__main__"}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    own = parser.parse_args()
    known = sorted(file.stem for file in HERE.glob("*.py") if file.stem not in PARTS)
    if unknown := sorted(set(own.only) - set(known)):
        parser.error(f"{', '.join(unknown)}: there are {', '.join(known)}")
    wanted = own.only or [name for name in known if name not in APART]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "headlines.jsonl"
        kept.touch()
        for name in wanted:
            file = HERE / f"{name}.py"
            knows_quick = "arguments(__doc__)" in file.read_text()
            if own.quick and not knows_quick:
                continue
            print(f"== {name}", flush=True)
            started = time.perf_counter()
            command = [sys.executable, str(file), *(["--quick"] if own.quick else [])]
            done = subprocess.run(command, check=False, env={**os.environ, HEADLINES: str(kept)})
            print(f"   {time.perf_counter() - started:.0f} s", flush=True)
            failed += [name] if done.returncode else []
        print("\n== what was promised", flush=True)
        headlines(kept)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
