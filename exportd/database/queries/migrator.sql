-- The bookkeeping of migrations: exportd.migration.

-- name: lock
-- One migration at a time in this database; held to the end of the transaction. Reading goes on. It is our own table,
-- which no other role can lock.
LOCK TABLE exportd.migration IN SHARE ROW EXCLUSIVE MODE

-- name: bound_waits
-- Another daemon that migrates is waited for so long.
SET LOCAL lock_timeout = '5min'

-- name: find_schema
-- Whether the schema exists.
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'exportd')

-- name: create_schema
-- Needs CREATE on the database, or a DBA who made the schema and gave it to the daemon's role.
CREATE SCHEMA exportd

-- name: find_table
-- Whether any migration was ever applied.
SELECT pg_catalog.to_regclass('exportd.migration') IS NOT NULL

-- name: create_table
-- What was applied, and when.
CREATE TABLE exportd.migration (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
)

-- name: applied
-- The number of the last migration applied.
SELECT coalesce(max(number), 0) FROM exportd.migration

-- name: record
-- $1 number, $2 name
INSERT INTO exportd.migration (number, name) VALUES ($1, $2)

-- name: role
-- Who owns what is created on this connection.
SELECT current_user
