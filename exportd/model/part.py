"""A part: one output file of at most the size cap, durable in the spool."""

from dataclasses import dataclass

from exportd.model.entity import EntityCode


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part. ``number`` counts from 1 within its entity; ``file_name`` is relative to the job's folder.

    ``size_bytes`` and ``sha256`` (hex) describe the compressed file as delivered,
    ``content_bytes`` what is inside it, header included.
    """

    entity: EntityCode
    number: int
    file_name: str
    rows: int
    content_bytes: int
    size_bytes: int
    sha256: str
