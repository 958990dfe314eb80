"""python -m emu2eval.cli: the same as the program `emu2eval`."""

from emu2eval.cli import main

main()
