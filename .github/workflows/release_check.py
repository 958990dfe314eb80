"""What a release must agree on: `release_check.py v0.2.0` from the root; without a tag, all but the tag."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path


def faults(root: Path, tag: str | None) -> Iterator[str]:
    """What keeps a release from being made, a line each."""
    version = _found(root / "emu2eval/__init__.py", r'__version__ = "(.*)"')
    cited = _found(root / "CITATION.cff", r"version: (\S+)")
    heading = _found(root / "CHANGELOG.md", r"## (.*)")
    if cited != version:
        yield f"CITATION.cff says version {cited}, the package {version}"
    if heading.split()[0] != version:
        yield f"CHANGELOG.md begins with {heading}, the package is {version}"
    if tag is None:
        return
    if tag != f"v{version}":
        yield f"the tag is {tag}, the version {version}"
    if not re.fullmatch(r"\S+ \(\d{4}-\d\d-\d\d\)", heading):
        yield f"CHANGELOG.md says {heading!r}; a release has its day: {version} (2027-01-31)"
    urls = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    yield from (f"the address of {k} is still {v}" for k, v in urls.items() if ".example" in v)


def _found(path: Path, pattern: str) -> str:
    found = re.search(rf"(?m)^{pattern}$", path.read_text(encoding="utf-8"))
    return found[1] if found else "nothing"


if __name__ == "__main__":
    told = list(faults(Path.cwd(), sys.argv[1] if len(sys.argv) > 1 else None))
    sys.exit("\n".join(told) or None)
