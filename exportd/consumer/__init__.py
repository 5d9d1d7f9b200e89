"""What is done with files that arrived, without the database: verifying, replaying, loading.

``inventory`` is what a location holds, ``inventory_reader`` reads it. On them stand ``verifier`` with its ``findings``,
and the ``loaders``. ``rebuilder`` rebuilds the tables of an organization in a DuckDB file, as of any job, with the
statements of the loaders: ``replay_plan`` says what is loaded in which order, ``json_cells`` reads JSONL without loss.
"""
