-- name: position_in_time
-- The snapshot of this transaction, and which line of transaction numbers it belongs to; and the names of settings that
-- are not as they have to be.
-- $1 text[]: settings, $2 text[]: their values
SELECT pg_catalog.pg_current_snapshot()::text AS snapshot,
       pg_catalog.pg_is_in_recovery() AS standby,
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS system_identifier,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END AS timeline,
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AS database_oid,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_lsn()::text END AS wal_position,
       pg_catalog.clock_timestamp() AS taken_at,
       ARRAY(SELECT wanted.name
             FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
             WHERE pg_catalog.current_setting(wanted.name) IS DISTINCT FROM wanted.value) AS unsettled

-- name: unsettled
-- The names of settings that are not as they have to be. $1 text[]: settings, $2 text[]: their values
SELECT wanted.name
FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
WHERE pg_catalog.current_setting(wanted.name) IS DISTINCT FROM wanted.value

-- name: export_snapshot
-- Makes this transaction's snapshot usable on other connections, while it lasts.
SELECT pg_catalog.pg_export_snapshot()

-- name: readable_whole
-- Whether this login may read each of the tables by itself, and sees all rows of it. $1 oid[]: tables
SELECT pg_catalog.bool_and(NOT c.relrowsecurity
                           AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
                           AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))
FROM pg_catalog.pg_class AS c
WHERE c.oid = ANY ($1::oid[])
