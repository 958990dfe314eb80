"""The Java programs that come inside pycocoevalcap: PTB tokenizer, METEOR 1.5 and SPICE 1.0.

They are started here and not by its Python wrappers, which write into the installed package, leave the
character set to the locale and do not notice when a program fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from emu2eval.errors import ConfigError, MissingExtra
from emu2eval.scorers.base import ScoringError

_TOKENIZER = "tokenizer/stanford-corenlp-3.4.1.jar"
_METEOR = "meteor/meteor-1.5.jar"
_SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
# Before Java 18 the locale decides how texts are read and written, else.
_UTF8 = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")
# What the tokenizer takes for the end of a line. pycocoevalcap replaces the newline only: one of the
# others in a caption shifts all captions after it by a line.
_BREAKS = re.compile("[\n\r\x0b\x0c\x85\u2028\u2029]")
_NEXT = "The"


@cache
def package() -> Path:
    """Where pycocoevalcap is. Raises MissingExtra."""
    spec = find_spec("pycocoevalcap")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise MissingExtra("pycocoevalcap", "captions", why="the scorer 'captions'")
    return Path(places[0])


@cache
def java() -> str:
    """The path of a Java that starts. Raises ConfigError."""
    found = shutil.which("java")
    works = found and subprocess.run([found, "-version"], capture_output=True).returncode == 0
    if not found or not works:
        raise ConfigError(
            "caption metrics need Java, which "
            + ("does not start" if found else "is not installed"),
            where=found,
            hint="install a Java runtime (apt install default-jre-headless) or put `java` on the PATH",
        )
    return found


def _run(arguments: Sequence[str], lines: Sequence[str], what: str) -> list[str]:
    done = subprocess.run(
        [java(), *_UTF8, *arguments],
        input="".join(f"{line}\n" for line in lines).encode("utf-8", "replace"),
        capture_output=True,
    )
    out = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if done.returncode or len(out) != len(lines):
        raise ScoringError(
            f"{what} failed: {len(out)} lines for {len(lines)}, exit code {done.returncode}\n"
            f"{done.stderr.decode('utf-8', 'replace')[-500:]}",
            hint="all answers are stored; once it works, run emu2eval score RUN",
        )
    return out


def tokenize(captions: Sequence[str]) -> list[str]:
    """Each caption in tokens with single spaces, as PTBTokenizer of pycocoevalcap gives them.

    Java is started once. A final period of "room no." or "the letter a." is a token of its own, and so
    dropped, only if a capital letter follows on the *next line*: there a caption's tokens depend on its
    neighbour. Here every caption is followed by the same word, so that they depend on nothing else.
    """
    if not captions:
        return []
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    lines = [line for caption in captions for line in (_BREAKS.sub(" ", caption), _NEXT)]
    program = ["-cp", str(package() / _TOKENIZER), "edu.stanford.nlp.process.PTBTokenizer"]
    out = _run([*program, "-preserveLines", "-lowerCase"], lines, "the tokenizer of captions")
    dropped = frozenset(PUNCTUATIONS)
    return [" ".join(w for w in line.rstrip().split(" ") if w not in dropped) for line in out[::2]]


def meteor(pairs: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[float, ...]]:
    """METEOR's 23 statistics of each (caption, references), all in tokens; see `caption_stats.meteor`."""
    if not pairs:
        return []
    lines = []
    for caption, references in pairs:
        bare = caption.replace("|||", "").replace("  ", " ")
        lines.append(" ||| ".join(("SCORE", *references, bare)))
    program = ["-Xmx2G", "-jar", str(package() / _METEOR), "-", "-", "-stdio", "-l", "en", "-norm"]
    return [tuple(map(float, line.split())) for line in _run(program, lines, "METEOR")]


def no_spice() -> str | None:
    """Why SPICE cannot be computed, or None. Its parser's models are never downloaded from here."""
    folder = package() / "spice" / "lib"
    if all((folder / name).is_file() for name in _SPICE_MODELS):
        return None
    return "no SPICE: the models of CoreNLP 3.6.0 are not installed"


def spice(captions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """SPICE's F of each caption, by keys of one's own; those that it cannot parse are left out."""
    from pycocoevalcap.spice.spice import Spice

    try:
        _, parts = Spice().compute_score(
            {key: list(listed) for key, listed in references.items()},
            {key: [caption] for key, caption in captions.items()},
        )
    except (subprocess.CalledProcessError, OSError) as error:
        raise ScoringError(
            f"SPICE failed: {error}",
            hint="all answers are stored; without SPICE: emu2eval score RUN "
            "--set task.score.options.metrics=[cider,bleu,rouge_l,meteor]",
        ) from None
    values = ((key, float(p["All"]["f"])) for key, p in zip(sorted(captions), parts, strict=True))
    return {key: value for key, value in values if value == value}
