"""The way to Postgres: quoting, named queries, connections, migrations.

And a server of our own, for the demo and the tests.
"""
