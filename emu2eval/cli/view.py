"""The report of a results folder in the browser, which follows the runs that are under way: view."""

from __future__ import annotations

from typing import Annotated

import typer

from emu2eval.cli.options import Out, Runs
from emu2eval.cli.say import put, say

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  emu2eval view
  emu2eval view easy-vqa --port 8765 --no-browser

The server accepts connections from this machine only, and only at the printed address, which contains a
secret. From another machine: ssh -L PORT:127.0.0.1:PORT HOST. Press Ctrl-C to stop."""
)
def view(
    runs: Runs = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 = any free port.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1, help="Samples per run that can be browsed [default: as many as stay fast]."
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The model to compare all others with.")
    ] = None,
    out: Out = None,
) -> None:
    """Show the report of stored runs [default: all] in the browser, and follow runs in progress."""
    from emu2eval.report.page.progress import told_bars
    from emu2eval.report.view.live_page import LivePage
    from emu2eval.report.view.server import View
    from emu2eval.runs import locate

    # Asked once before anything is shown, so that a name that fits nothing is told.
    locate.find(runs or [], out)
    shown = LivePage(lambda: locate.find(runs or [], out), samples, baseline)
    try:
        with told_bars() as told:
            shown.look(told)
        server = View(shown, port)

        def ready() -> None:
            put(f"{server.address}\n")
            say("serving the report at this address; press Ctrl-C to stop")
            if browser:
                import webbrowser

                webbrowser.open(server.address)

        server.serve(ready)
    except KeyboardInterrupt:
        say("\nclosed")
