"""The manifest says what a job delivered to a destination: one JSON document per job and destination, published last.

``document`` is the document, ``build`` makes it from what was read, ``chain`` checks that a destination's documents
follow each other without a gap.
"""
