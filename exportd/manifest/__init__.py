"""The manifest: one JSON document for each job and destination, which says what was delivered. It is published last.

``document`` defines the document, ``build`` builds it from an extraction, ``chain`` checks that a destination's
documents follow each other without a gap.
"""
