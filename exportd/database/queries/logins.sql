-- What a login of the daemon may do.

-- name: login
-- The role of this connection, its rights that go beyond any grant, and how many tables of the daemon it may read that
-- are no change logs.
SELECT r.rolname AS role,
       r.rolsuper AS superuser,
       r.rolbypassrls AS bypasses_policies,
       pg_catalog.current_database() AS database,
       (SELECT count(*)
        FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd')
          AND c.relkind = 'r' AND c.relname NOT LIKE 'log\_%'
          AND pg_catalog.has_table_privilege(c.oid, 'SELECT')) AS readable
FROM pg_catalog.pg_roles AS r
WHERE r.rolname = current_user

-- name: dumping_owner
-- The database's owner if pg_dump fails for that role: it may not look into the schema exportd, which is there.
SELECT pg_catalog.pg_get_userbyid(d.datdba) AS role
FROM pg_catalog.pg_database AS d
JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'exportd'
WHERE d.datname = pg_catalog.current_database() AND NOT pg_catalog.has_schema_privilege(d.datdba, n.oid, 'USAGE')

-- name: knows_daemons
-- Whether the table of daemons is there.
SELECT pg_catalog.to_regclass('exportd.daemon') IS NOT NULL

-- name: daemons
-- Those that run, as far as is known.
SELECT host FROM exportd.daemon WHERE stopped_at IS NULL ORDER BY host
