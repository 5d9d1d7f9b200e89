-- What a login of the daemon may do, and what else is doubtful about how the database is set up.

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

-- name: temp_file_limits
-- Every temp_file_limit that a session in this database may have, in bytes, except our own role's: a plain number is in
-- kilobytes, and -1 is no limit.
WITH given (owner, value, weight) AS (
    SELECT 'the server', s.setting, 0 FROM pg_catalog.pg_settings AS s
    WHERE s.name = 'temp_file_limit' AND s.source NOT IN ('database', 'user', 'database user', 'client', 'session')
    UNION ALL
    SELECT CASE WHEN r.rolname IS NULL THEN 'the database' ELSE 'the role ' || r.rolname END
           || CASE WHEN r.rolname IS NOT NULL AND g.setdatabase <> 0 THEN ' in this database' ELSE '' END,
           pg_catalog.substr(c.setting, pg_catalog.strpos(c.setting, '=') + 1),
           CASE WHEN r.rolname IS NULL THEN 1 ELSE 2 END
    FROM pg_catalog.pg_db_role_setting AS g
    CROSS JOIN LATERAL unnest(g.setconfig) AS c (setting)
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = g.setrole
    WHERE pg_catalog.lower(c.setting) LIKE 'temp\_file\_limit=%' AND (g.setrole = 0 OR r.rolname <> current_user)
      AND g.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database AS d
                                WHERE d.datname = pg_catalog.current_database()))
), measured AS (
    SELECT owner, weight, CASE WHEN value ~ '^-?[0-9]+$' THEN value::bigint * 1024
                               ELSE pg_catalog.pg_size_bytes(value) END AS bytes
    FROM given
)
SELECT owner, bytes FROM measured WHERE bytes >= 0 ORDER BY weight, owner
