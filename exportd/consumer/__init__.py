"""What is done with files that arrived, without the database: verifying, replaying, loading.

``inventory`` is what a location holds, ``inventory_reader`` reads it. On them stand ``verifier`` with its ``findings``,
``replay`` and the ``loaders``.
"""
