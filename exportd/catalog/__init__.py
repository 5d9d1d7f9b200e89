"""The catalog: which kinds of records can be exported, and which tables and columns they are."""
