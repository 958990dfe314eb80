"""The program: `emu2eval`, or `python -m emu2eval`. It imports nothing before Ctrl-C is understood."""


def main() -> None:
    try:
        from emu2eval.cli import main as program

        program()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
