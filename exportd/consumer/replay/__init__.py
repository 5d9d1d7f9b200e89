"""Rebuilds the tables of an organization in a DuckDB file, as of any job, from what was delivered.

``plan`` says what is loaded in which order, ``json_cells`` reads JSONL without loss, ``rebuilder`` does it with the
statements of the loader kit.
"""
