"""Runs the blocks of a page one after the other, in this process, in one folder."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from emu2eval import cli

from .blocks import ROOT, Block, Command, commands, shown_in, varied
from .checked import check, check_part

_HERE = frozenset({"emu2eval", "python", "export", "cat", "head", "pytest", "mkdir", "ls", "wait"})
"""Programs whose commands are carried out; all others are checked."""


class Page:
    """folder: where the commands are given; names: what Python blocks share."""

    def __init__(
        self,
        folder: Path,
        patch: pytest.MonkeyPatch,
        names: dict[str, Any] | None = None,
        pinned: dict[str, str] | None = None,
    ):
        self.folder, self._patch, self._pinned = folder, patch, pinned or {}
        self.names: dict[str, Any] = {"__name__": "__main__", **(names or {})}
        self.printed = ""
        self._ran = False

    def block(self, block: Block) -> None:
        """Runs it, or checks it where the page says that it cannot run here."""
        if block.said == "example":
            return
        if not block.kind:
            # Without a language only the README may stand, whose commands are checked and not run.
            assert block.page == "README.md", f"{block.where}: say console, text, yaml or python"
            for command in commands(block.text):
                check(command)
            return
        if block.said == "not run":
            assert block.about, f"{block.where}: no reason is given"
            self._ran = False
            self._check(block)
            return
        if block.kind in ("yaml", "csv", "json", "toml", "bash") and block.name is None:
            self._check(block)
            return
        if block.kind == "console":
            self.printed = ""
            wanted = int(block.about) if block.said == "exit" else 0
            for command in commands(block.text):
                code = self._command(command)
                assert code == wanted, f"{block.where}: {command.words} gave {code}\n{self.printed}"
            self._ran = True
        elif block.kind == "python" and block.name is None:
            with self._captured():
                exec(compile(block.text, block.where, "exec"), self.names)
            self._ran = True
        elif block.kind == "text":
            assert self._ran, f"{block.where}: it shows what nothing above it printed"
            same = varied if block.said == "varies" else str
            assert shown_in(same(block.text), same(self.printed)), (
                f"{block.where} shows\n{block.text}\nand what was printed is\n{self.printed}"
            )
        elif block.name is not None:
            path = self.folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if block.kind == "bash":
                self.printed = ""
                for command in recorded(path, self.folder):
                    assert self._command(command) == 0, f"{block.where}: {command}\n{self.printed}"
        else:
            raise AssertionError(f"{block.where}: a block of the kind {block.kind!r}")

    def _check(self, block: Block) -> None:
        if block.kind == "console":
            for command in commands(block.text):
                if command.words[0] not in ("export", "cat", "head", "ls", "mkdir", "pytest"):
                    check(command)
        elif block.kind == "python":
            compile(block.text, block.where, "exec")
        elif block.kind == "yaml":
            check_part(block.text)
        elif block.kind == "json":
            json.loads(block.text)
        elif block.kind == "bash":
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
        else:
            assert block.kind in ("text", "csv"), (
                f"{block.where}: a block of the kind {block.kind!r}"
            )

    def _command(self, command: Command) -> int:
        program, *words = [self._meant(word) for word in command.words]
        words = [each for word in words for each in self._globbed(word)]
        if program not in _HERE:
            check(command)
            return 0
        with pytest.MonkeyPatch.context() as own:
            for name, value in command.set.items():
                own.setenv(name, value)
            return int(getattr(self, f"_{program}")(words) or 0)

    def _meant(self, word: str) -> str:
        """A shell's $NAME, of a variable that is set."""
        return re.sub(r"\$([A-Z_]+)", lambda found: os.environ[found[1]], word)

    def _globbed(self, word: str) -> list[str]:
        """A shell's `*` in a path; one that fits no file is left to the program, as shells do."""
        found = (
            sorted(str(path) for path in Path().glob(word)) if "/" in word and "*" in word else []
        )
        return found or [word]

    def _emu2eval(self, words: list[str]) -> int:
        with self._captured(), pytest.MonkeyPatch.context() as own:
            own.setattr("sys.argv", ["emu2eval", *words])
            try:
                cli.main()
            except SystemExit as ended:
                return int(ended.code or 0)
        return 0

    def _python(self, words: list[str]) -> None:
        file = words[0]
        with self._captured(), pytest.MonkeyPatch.context() as own:
            own.setattr("sys.argv", words)
            own.syspath_prepend(Path(file).parent)
            runpy.run_path(file, run_name="__main__")

    def _export(self, words: list[str]) -> None:
        for word in words:
            name, _, value = word.partition("=")
            self._patch.setenv(name, self._pinned.get(name, value))

    def _cat(self, words: list[str]) -> None:
        self.printed += "".join((self.folder / word).read_text(encoding="utf-8") for word in words)

    def _head(self, words: list[str]) -> None:
        count, file = words[0].lstrip("-n") or words[1], words[-1]
        lines = (self.folder / file).read_text(encoding="utf-8").splitlines(keepends=True)
        self.printed += "".join(lines[: int(count)])

    def _ls(self, words: list[str]) -> None:
        self.printed += "".join(
            f"{path.name}\n" for path in sorted((self.folder / (words or ["."])[0]).iterdir())
        )

    def _mkdir(self, words: list[str]) -> None:
        for word in words:
            if word != "-p":
                (self.folder / word).mkdir(parents=True, exist_ok=True)

    def _wait(self, words: list[str]) -> None: ...

    def _pytest(self, words: list[str]) -> None:
        """Calls the tests of files as pytest would, with the one fixture that pages use."""
        for file in words:
            if file.startswith("-"):
                continue
            self._patch.syspath_prepend(self.folder)
            module = __import__(Path(file).stem)
            found = [value for name, value in vars(module).items() if name.startswith("test_")]
            assert found
            for number, test in enumerate(found):
                given = inspect.signature(test).parameters
                folder = self.folder / f"tmp-{number}"
                test(**({"tmp_path": folder} if "tmp_path" in given else {}))

    @contextmanager
    def _captured(self) -> Iterator[None]:
        """Both streams into one text, in the order in which a terminal would show them."""
        raw = io.BytesIO()
        both = io.TextIOWrapper(raw, encoding="utf-8", newline="", write_through=True)
        before = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = cast(Any, both)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            self.printed += raw.getvalue().decode()
            assert "Traceback (most recent" not in self.printed, self.printed


def recorded(script: Path, folder: Path) -> list[Command]:
    """What a shell script would run: each command of ours, with the variables that pages set."""
    shims = folder / ".shims"
    shims.mkdir(exist_ok=True)
    log = folder / ".shims/log"
    shim = shims / "emu2eval"
    shim.write_text(
        "#!/bin/bash\n{ for v in CUDA_VISIBLE_DEVICES EMU2EVAL_DATA EMU2EVAL_RUNS; do "
        '[ -n "${!v}" ] && printf "%s=%s\\0" $v "${!v}"; done; '
        f'printf "\\1\\0"; printf "%s\\0" "$@"; printf "\\2\\0"; }} >> {log}\n'
    )
    shim.chmod(0o755)
    log.write_text("")
    env = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "1"}
    subprocess.run(["bash", "-e", str(script)], cwd=folder, env=env, check=True)
    found = []
    for entry in log.read_text().split("\2\0")[:-1]:
        variables, _, words = entry.partition("\1\0")
        own = dict(each.split("=", 1) for each in variables.split("\0")[:-1])
        found.append(Command(own, ["emu2eval", *words.split("\0")[:-1]]))
    assert found, f"{script.name} runs nothing of ours"
    shutil.rmtree(shims)
    return found


def beside(folder: Path) -> None:
    """What a checkout has where the commands are given: the examples and the reference runs."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "results").mkdir()
    for name in ("reference", "published", "tables"):
        (folder / "results" / name).symlink_to(ROOT / "results" / name)
