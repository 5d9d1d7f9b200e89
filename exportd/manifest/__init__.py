"""The station that says what a run consists of: one JSON document per job and destination, published last.

``document`` is the document, ``chain`` checks that a destination's documents follow each other without a gap,
``publisher`` writes one to a store.
"""
