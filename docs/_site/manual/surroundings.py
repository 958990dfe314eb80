"""Entry points, environment variables."""

from __future__ import annotations

from collections.abc import Iterator

from emu2eval import registry
from manual.text import code, fence, page, prose, table

VARIABLES = {
    "EMU2EVAL_DATA": "the folder of benchmark data; without it `./data`",
    "EMU2EVAL_RUNS": "the folder of runs; without it `./results/runs`. `--out` stands above it",
    "EMU2EVAL_CACHE": "the folder of what can be computed again, such as features of images; "
    "without it `~/.cache/emu2eval`",
    "OPENAI_API_KEY": "the key of OpenAI's server. Of other servers the model file names the "
    "variable, `key_env`; keys "
    "are never stored or shown",
    "HF_TOKEN": "for data sets and checkpoints of the Hugging Face hub that want a token, and for "
    "`emu2eval push`",
    "HF_TOKEN_PATH": "the file of that token, where it is not `$HF_HOME/token`",
    "HF_HOME": "the folder of the hub's own cache and token",
    "HF_ENDPOINT": "another hub than https://huggingface.co",
    "HF_HUB_OFFLINE": "`1` asks the hub for nothing",
    "HTTPS_PROXY": "a proxy, as everywhere; `ALL_PROXY`, `HTTP_PROXY` and `NO_PROXY` count as well",
    "SSL_CERT_FILE": "certificates to trust in place of the system's; `SSL_CERT_DIR` likewise a "
    "folder of them",
    "SSL_CERT_DIR": "see `SSL_CERT_FILE`",
    "WANDB_MODE": "as Weights & Biases has it, for `--log wandb`",
    "WANDB_PROJECT": "the project of `--log wandb`, in place of what stands behind `wandb=`",
    "CUDA_VISIBLE_DEVICES": "the GPUs that this process may use, as everywhere",
    "RAY_AUTH_TOKEN": "the token of the cluster that `--cluster` names; else Ray reads `~/.ray/auth_token`",
    "RAY_ADDRESS": "the cluster that `--cluster auto` means; else the one that was started on this machine",
    "RAY_TMPDIR": "where Ray keeps what it says of that one, in place of `/tmp`",
    "RAY_AUTH_TOKEN_PATH": "the file of that token",
    "NO_COLOR": "output without colours, whatever the terminal can",
}
"""What is read from the environment; tests hold that no other name is."""


def pages() -> Iterator[tuple[str, str]]:
    yield "reference/entry-points.md", _entry_points()
    yield "reference/environment.md", _environment()


def _entry_points() -> str:
    rows = [
        (
            code(f"emu2eval.{kind}s"),
            f"[{kind}s](parts/{kind}s.md)",
            ", ".join(map(code, list(parts)[:4])) + (", …" if len(parts) > 4 else ""),
        )
        for kind, parts in registry.BUILT_IN.items()
    ]
    example = fence(
        '[project.entry-points."emu2eval.scorers"]\nmy_scorer = "my_package.scoring:MyScorer"',
        "toml",
    )
    return page(
        "# Entry points",
        "A package adds parts of its own under these groups; they then have names like the "
        "built-in ones, which take "
        "the same path. Without a package, `module:attr` in a file, or `FILE.py:NAME`, does the "
        "same for code beside "
        "your task, once its module may be imported (`--trust`, or a file of your own beside it).",
        table(("group", "adds", "built in"), rows),
        "In the `pyproject.toml` of your package:",
        example,
        "`emu2eval check --adapter my_package.my_module:MyAdapter` tests an adapter, and "
        "`emu2eval.testing` helps to test "
        "the other parts: [Testing plug-ins](python/testing.md).",
    )


def _environment() -> str:
    return page(
        "# Environment variables",
        table(
            ("variable", "what it sets"),
            [(code(name), prose(said)) for name, said in VARIABLES.items()],
        ),
        "Settings of models, tasks and runs never come from the environment: the same command "
        "gives the same number.",
    )
