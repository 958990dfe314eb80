"""`python -m emu2eval` is the program."""

from emu2eval.cli import main

if __name__ == "__main__":
    main()
