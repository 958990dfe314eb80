"""Parts that stand in a Python file and go by its path, such as `metric.py:token_f1`."""

from __future__ import annotations

import hashlib
import linecache
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

from emu2eval.errors import UnknownName, of_part
from emu2eval.trust import check_found, find_script


def of_script(kind: str, name: str, where: str | None) -> Any:
    """What a Python file defines; the file is run once for each version of it."""
    script, _, attribute = name.rpartition(":")
    path = find_script(kind, name, script, where)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    # Files of one name in two folders are two modules, and so is one that was edited meanwhile.
    known_as = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{digest}"
    module: ModuleType | None = sys.modules.get(known_as)
    if module is None:
        spec = spec_from_file_location(known_as, path)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        linecache.checkcache(str(path))
        sys.modules[known_as] = module
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # what stands beside it can be imported
        try:
            with of_part(kind, name):
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[known_as]
            raise
    if not hasattr(module, attribute):
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == known_as]
        raise UnknownName("name", attribute, own, of=path.name, where=where)
    found = getattr(module, attribute)
    check_found(kind, name, module, found, where)
    return found
