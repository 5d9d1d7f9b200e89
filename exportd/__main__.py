"""``exportd``, and ``python -m exportd``."""

import sys


def main() -> None:
    """The console script. What a shell asks at each Tab is answered without the command line's own modules."""
    if sys.argv[1:2] == ["__complete"]:
        from exportd.cli.completion import complete

        complete(sys.argv[2:])
        return
    from exportd.cli.main import app
    from exportd.cli.output import Exit, reported

    with reported():
        app(exit_on_error=True, print_error=True)
    sys.exit(Exit.DONE)


if __name__ == "__main__":
    main()
