"""`emu2eval plan`: where a model would be placed, without weights or a GPU."""

from __future__ import annotations

from typing import Annotated

import typer

from emu2eval.cli import completion
from emu2eval.cli.options import Sets
from emu2eval.cli.say import console

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  emu2eval plan --model emu2-chat --memory 24GiB,24GiB,24GiB,24GiB \\
      --shots 4 --batch 2
  emu2eval plan --model emu2-gen --memory 5x24GiB
  emu2eval plan --model emu2 --memory 24GiB,cpu:64GiB --quantize 8"""
)
def plan(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Model name or .yaml file.", autocompletion=completion.models
        ),
    ],
    memory: Annotated[
        str, typer.Option(help="One size per GPU, optionally followed by cpu:SIZE and disk.")
    ],
    shots: Annotated[int, typer.Option("--shots", "-k", min=0, help="Demonstrations.")] = 0,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Batch size [default: the model's].")
    ] = None,
    beams: Annotated[
        int | None, typer.Option(min=1, help="Beams in beam search [default: the model's].")
    ] = None,
    quantize: Annotated[
        int | None, typer.Option(help="Quantize to 8 or 4 bits [default: the model's].")
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="Images per demonstration.")] = 1,
    text: Annotated[int, typer.Option(min=0, help="Text tokens per demonstration.")] = 32,
    new_tokens: Annotated[int, typer.Option(min=1, help="New tokens per answer.")] = 10,
    set_: Sets = [],  # noqa: B006
) -> None:
    """Show how a model would be placed on devices; needs neither weights nor a GPU."""
    from emu2eval.adapters.memory import Workload, parse_memory
    from emu2eval.report.placement import show_plan
    from emu2eval.spec.changes import Changes

    own = {"batch": batch, "beams": beams, "quantize": quantize}
    named = {f"settings.{key}": value for key, value in own.items() if value is not None}
    changes = Changes.of(set_).merged(Changes(model=named))
    workload = Workload(parse_memory(memory), shots, images, text, new_tokens)
    console().print(show_plan(model, changes, workload))
