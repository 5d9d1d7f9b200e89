"""Reads the rows that a job exports from the source database, all in one snapshot.

Read it in this order. ``extractor.Extractor`` takes a job to its parts in the spool. ``snapshot_opener`` locks the
tables and opens the snapshot. There each entity gets its ``window``: its ``guards`` are compared with those of the last
run, which decides between a full and an incremental run. ``statement`` builds the queries of the window,
``projection`` the form of their fields. ``copier`` runs them as COPY and passes the bytes on. Beside that,
``previewer`` estimates what the next run would hold.
"""
