"""``exportd``, and ``python -m exportd``."""

import sys


def main() -> None:
    """The console script. What a shell asks at each Tab is answered without the command line's own modules."""
    if sys.argv[1:2] == ["__complete"]:
        from exportd.cli.completion import complete

        complete(sys.argv[2:])
        return
    from exportd.cli.main import main as run_command

    run_command()


if __name__ == "__main__":
    main()
