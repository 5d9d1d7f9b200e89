"""How to talk to Postgres: connections, units of work, named queries, quoting, migrations."""
