"""The station that turns COPY's bytes into files: whole rows in, compressed parts of at most the size cap
out.

``part_writer.EntityWriter`` is the sink of one entity. It hands blocks of about 2 MiB to a worker thread,
where ``part_sequence.PartSequence`` counts, compresses (``gzip_stream``), hashes and writes them, and
starts the next file before the cap would be passed (``split`` finds the place). All files live in the
``spool``, which bounds the disk they may take. ``part_file.PartFile`` lets an upload follow a file while it
grows.
"""
