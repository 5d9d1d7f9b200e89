"""How a long reading tells how far it is."""


class Progress:
    """Told how much there is to read, and of each chunk that was; ignores it unless a subclass shows it."""

    def begin(self, size_bytes: int) -> None:
        """There are so many bytes to be read."""

    def advance(self, size_bytes: int) -> None:
        """So many more bytes have been read."""
