"""``python -m exportd``."""

from exportd.cli.main import main

main()
