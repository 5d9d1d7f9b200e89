-- name: installed_functions
-- The functions that belong to change logs: trigger functions and those that pass a key on. Their bodies are long and
-- many, so only their digests are fetched. $1 text[]: patterns of names
SELECT p.proname AS name,
       pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex') AS digest,
       p.prosrc LIKE '%INSERT INTO "exportd"."log\_%' AS logs,
       pg_catalog.pg_get_function_identity_arguments(p.oid) AS arguments,
       p.prosecdef AS definer, coalesce(p.proconfig, '{}') AS settings
FROM pg_catalog.pg_proc AS p
WHERE p.pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd')
  AND p.proname LIKE ANY ($1::text[])
ORDER BY p.proname

-- name: installed_logs
-- The change logs that there are, with what each captures (its comment), and whether its parts are there.
-- $1 text[]: patterns of names
SELECT c.relname AS name,
       pg_catalog.obj_description(c.oid, 'pg_class') AS captures,
       c.relpersistence = 'p' AS logged,
       EXISTS (SELECT FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_attribute AS a
                        ON a.attrelid = c.oid AND a.attnum = i.indkey[i.indnatts - 1]
               WHERE i.indrelid = c.oid AND i.indisvalid AND a.attname = 'xid') AS indexed,
       EXISTS (SELECT FROM pg_catalog.pg_class AS s
               WHERE s.relnamespace = c.relnamespace AND s.relkind = 'S'
                 AND s.relname = pg_catalog.regexp_replace(c.relname, '^log', 'seq')) AS numbered,
       EXISTS (SELECT FROM pg_catalog.pg_attrdef AS d JOIN pg_catalog.pg_attribute AS a
                        ON a.attrelid = d.adrelid AND a.attnum = d.adnum
               WHERE d.adrelid = c.oid AND a.attname = 'xid') AS stamped
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd')
  AND c.relkind = 'r' AND c.relname LIKE ANY ($1::text[])
ORDER BY c.relname

-- name: installed_triggers
-- The capture triggers in the database, whatever table they are on. $1 text[]: patterns of their functions' names
SELECT g.tgname AS name, n.nspname AS schema_name, c.relname AS table_name, p.proname AS function
FROM pg_catalog.pg_trigger AS g
JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid
JOIN pg_catalog.pg_class AS c ON c.oid = g.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE p.pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd')
  AND p.proname LIKE ANY ($1::text[])
ORDER BY n.nspname, c.relname, g.tgname

-- name: cluster
-- The cluster the logs were written in, as recorded, beside the one this is.
SELECT recorded.system_identifier AS recorded_identifier,
       recorded.database_oid AS recorded_oid,
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS system_identifier,
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AS database_oid
FROM (SELECT) AS one LEFT JOIN exportd.cluster AS recorded ON true

-- name: role
SELECT current_user

-- name: owned_by_others
-- Tables and functions of the schema exportd that belong to another role than this one: one made by a superuser.
-- A table has no arguments.
SELECT c.relname AS name, NULL::text AS arguments
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd') AND c.relkind = 'r'
  AND c.relowner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
UNION ALL
SELECT p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)
FROM pg_catalog.pg_proc AS p
WHERE p.pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd')
  AND p.proowner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
ORDER BY name, arguments

-- name: unreadable_logs
-- The change logs that the reading role may not read, among these; none where there is no such role (it cannot connect
-- either). $1 text: role; $2 text[]: names of logs
SELECT c.relname
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_roles AS r ON r.rolname = $1
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd')
  AND c.relkind = 'r' AND c.relname = ANY ($2::text[])
  AND NOT (pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
           AND pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT'))
ORDER BY c.relname

-- name: record_cluster
-- $1 text: system identifier; $2 oid: database
INSERT INTO exportd.cluster (system_identifier, database_oid) VALUES ($1, $2)
ON CONFLICT (only_row) DO UPDATE SET system_identifier = excluded.system_identifier, database_oid = excluded.database_oid

-- name: arm_doorbell
-- Triggers ring until the given number of seconds is over, unless the queue of notifications is fuller than the given
-- share of it: once it is full, the transaction that rings fails. Whether they ring. $1 float8: seconds; $2 float8: share
SELECT pg_catalog.setval('exportd.doorbell', CASE WHEN pg_catalog.pg_notification_queue_usage() <= $2::float8
    THEN (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) + $1::float8)::bigint ELSE 0 END) > 0

-- name: disarm_doorbell
SELECT pg_catalog.setval('exportd.doorbell', 0)

-- name: read_until
-- Per entity, when the schedule that is furthest behind last read it. $1 text[]: entities
SELECT p.entity, min(p.taken_at) AS read_until
FROM exportd.position AS p
JOIN exportd.schedule AS s ON s.id = p.schedule_id AND s.deleted_at IS NULL
WHERE p.entity = ANY ($1::text[])
GROUP BY p.entity

-- name: two_phase_allowed
-- PREPARE TRANSACTION fails in a transaction that has executed NOTIFY.
SELECT pg_catalog.current_setting('max_prepared_transactions')::integer > 0

-- name: accepts_changes
-- Whether this session may write. It reads a table of ours, so that a role without rights is noticed too.
SELECT pg_catalog.current_setting('transaction_read_only') = 'off'
FROM (SELECT pg_catalog.count(*) FROM exportd.migration) AS migrations

-- name: expire_positions
-- Positions that have not moved for longer than the horizon stop holding the log back. $1 float8: horizon in seconds
UPDATE exportd.position AS p SET expired = true
FROM exportd.schedule AS s
WHERE s.id = p.schedule_id AND NOT p.expired
  AND p.taken_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)
RETURNING s.organization, s.code, p.entity

-- name: expire_backfill_requests
-- The same for what was asked to begin at a past position, and has not been done for as long: its run is full.
-- $1 float8: horizon in seconds
UPDATE exportd.backfill_request AS r
SET snapshot = NULL, taken_at = NULL, guards = NULL, full_reason = 'HORIZON_PASSED'
FROM exportd.schedule AS s
WHERE s.id = r.schedule_id AND r.snapshot IS NOT NULL
  AND r.requested_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)
RETURNING s.organization, s.code, r.entity

-- name: let_go
-- Jobs that have succeeded no longer hold the log back after a while. $1 float8: that while in seconds
UPDATE exportd.job SET log_hold = NULL
WHERE state = 'SUCCEEDED' AND log_hold IS NOT NULL
  AND finished_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)

-- name: prune_bounds
-- Per entity, the transaction below which no window will ever look again: the oldest lower end of a schedule's next
-- window, of a back-fill that was asked for, of a job that runs or can be back-filled, and of this moment (a job that
-- starts later takes a later snapshot). $1 text[]: entities
WITH now AS (SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()) AS xmin),
held AS MATERIALIZED (
    SELECT e.entity, min(j.log_hold::text::numeric) AS hold
    FROM exportd.job AS j
    LEFT JOIN exportd.schedule AS s ON s.id = j.schedule_id
    CROSS JOIN unnest(j.entities) AS e (entity)
    WHERE j.log_hold IS NOT NULL AND (j.state <> 'SUCCEEDED' OR s.deleted_at IS NULL)
    GROUP BY e.entity
)
SELECT e.entity,
       least(
           (SELECT xmin::text::numeric FROM now),
           (SELECT hold FROM held WHERE held.entity = e.entity),
           (SELECT min(pg_catalog.pg_snapshot_xmin(p.snapshot)::text::numeric)
            FROM exportd.position AS p
            JOIN exportd.schedule AS s ON s.id = p.schedule_id AND s.deleted_at IS NULL
            WHERE p.entity = e.entity AND NOT p.expired),
           (SELECT min(pg_catalog.pg_snapshot_xmin(r.snapshot)::text::numeric)
            FROM exportd.backfill_request AS r
            JOIN exportd.schedule AS s ON s.id = r.schedule_id AND s.deleted_at IS NULL
            WHERE r.entity = e.entity)
       )::text AS bound
FROM unnest($1::text[]) AS e (entity)
