"""The built wheel carries the tasks and models, and works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import emu2eval

ROOT = Path(emu2eval.__file__).parents[1]


def test_the_wheel_stands_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    assert not [n for n in names if n.split("/")[0] in ("tests", "tasks", "models", "benchmarks")]
    page = ROOT / "emu2eval" / "report" / "page"
    shipped = [path for path in page.iterdir() if path.suffix in (".html", ".css", ".js")]
    assert shipped
    assert {f"emu2eval/report/page/{path.name}" for path in shipped} <= set(names)
    # First on the path, so that this copy runs and not the checkout.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import emu2eval.cli as c; print(c.__file__); c.main()",
            "ls",
            "tasks",
        ],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(site))
    assert {"emu2eval/published/emu2.yaml", "emu2eval/py.typed"} <= set(names)
    assert "emu2eval/tasks/remote/files.yaml" in names
    for name in (ROOT / "tasks").glob("*.yaml"):
        assert f"\n{name.stem} " in done.stdout
