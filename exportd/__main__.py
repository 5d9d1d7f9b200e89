"""``exportd``, and ``python -m exportd``."""

import sys


def main() -> None:
    """The console script. What a shell asks at each Tab is answered without the command line's own modules."""
    if sys.argv[1:2] == ["__complete"]:
        from exportd.cli.completion import complete

        complete(sys.argv[2:])
        return
    import signal

    from exportd.cli.main import app
    from exportd.cli.output import Exit, reported

    try:
        with reported():
            app(exit_on_error=True, print_error=True)
        sys.exit(Exit.DONE)
    finally:
        # Everything is done and said. Another Ctrl-C would only have Python print where it was while it ended.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
