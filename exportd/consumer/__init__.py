"""Works with delivered files, without the database: verifies, replays and loads them.

``inventory`` describes the content of a location, ``inventory_reader`` reads it. ``verifier`` with its ``findings``,
and the ``loaders``, use both. ``rebuilder`` rebuilds the tables of an organization in a DuckDB file, as of any job,
with the statements of the loaders: ``replay_plan`` decides what is loaded in which order, ``json_cells`` reads JSONL
without loss.
"""
