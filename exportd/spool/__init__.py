"""Turns COPY's bytes into files on the local disk: whole rows in, compressed parts of at most the size cap out.

``entity_writer.EntityWriter`` is the sink of one entity. It hands blocks of about 2 MiB to a worker thread, where
``part_sequence.PartSequence`` counts, compresses, hashes and writes them, and starts the next file before the cap would
be exceeded (``part_content`` finds the place). All files are in the ``spool``, which limits the disk space they may
take. ``part_files.PartFile`` lets an upload follow a file while it grows. ``retention`` removes the files of jobs that
finished long enough ago.
"""
