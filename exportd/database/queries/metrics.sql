-- What the metrics say of the database: a look from a distance, each query bounded by an index or by what is declared.

-- name: freshness
-- How old what a destination has is: the snapshot of its oldest entity. One that has nothing yet counts from the
-- schedule's last edit.
WITH taken AS (
    -- Most entities of a schedule have gone to the same destinations: one row for those, before the destinations.
    SELECT p.schedule_id, p.destinations, count(*) AS entities, min(p.taken_at) AS oldest
    FROM exportd.position AS p
    JOIN exportd.schedule AS s ON s.id = p.schedule_id AND p.entity = ANY (s.entities)
    WHERE s.deleted_at IS NULL
    GROUP BY p.schedule_id, p.destinations
)
SELECT s.organization, s.code, d.destination,
       extract(epoch FROM clock_timestamp() - least(
           min(t.oldest),
           CASE WHEN coalesce(sum(t.entities), 0) < cardinality(s.entities) THEN s.modified_at END
       ))::float8 AS lag_s
FROM exportd.schedule AS s
CROSS JOIN unnest(CASE WHEN s.destinations = '{}' THEN '{""}' ELSE s.destinations END) AS d (destination)
LEFT JOIN taken AS t ON t.schedule_id = s.id AND (d.destination = '' OR d.destination = ANY (t.destinations))
WHERE s.deleted_at IS NULL
GROUP BY s.id, d.destination;

-- name: failed_schedules
-- The schedules whose last finished job has failed, and why.
SELECT s.organization, s.code, last.reason
FROM exportd.schedule AS s
CROSS JOIN LATERAL (
    SELECT j.state, coalesce(j.reason, '') AS reason
    FROM exportd.job AS j
    WHERE j.schedule_id = s.id AND j.finished_at IS NOT NULL
    ORDER BY j.due_at DESC
    LIMIT 1
) AS last
WHERE s.deleted_at IS NULL AND last.state = 'FAILED';

-- name: jobs
SELECT count(*) FILTER (WHERE state = 'PENDING') AS pending,
       count(*) FILTER (WHERE state = 'RUNNING') AS running,
       coalesce(max(extract(epoch FROM clock_timestamp() - greatest(created_at, not_before)))
           FILTER (WHERE state = 'PENDING' AND not_before <= clock_timestamp()), 0)::float8 AS oldest_due_s
FROM exportd.job
WHERE state IN ('PENDING', 'RUNNING');

-- name: change_logs
-- Estimates: counting would read the logs. $1 text[]: entities; $2 text[]: the names of their logs
SELECT e.entity,
       pg_catalog.pg_stat_get_live_tuples(c.oid)::float8 AS rows,
       extract(epoch FROM clock_timestamp() - w.oldest)::float8 AS oldest_window_s
FROM unnest($1::text[], $2::text[]) AS e (entity, log)
JOIN pg_catalog.pg_class AS c ON c.relname = e.log AND c.relkind = 'r'
LEFT JOIN (
    SELECT p.entity, min(p.taken_at) AS oldest
    FROM exportd.position AS p
    JOIN exportd.schedule AS s ON s.id = p.schedule_id AND s.deleted_at IS NULL
    WHERE NOT p.expired
    GROUP BY p.entity
) AS w ON w.entity = e.entity
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd');

-- name: oldest_rows
SELECT kind, extract(epoch FROM clock_timestamp() - since)::float8 AS age_s
FROM (
    SELECT 'jobs' AS kind, min(finished_at) AS since FROM exportd.job WHERE finished_at IS NOT NULL
    UNION ALL
    SELECT 'audit', min(at) FROM exportd.audit
) AS oldest
WHERE since IS NOT NULL;

-- name: oldest_transaction
-- Of all roles only for a member of pg_read_all_stats; a role sees its own and prepared ones in any case.
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - begun)), 0)::float8 AS age_s
FROM (
    SELECT xact_start AS begun FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    UNION ALL
    SELECT prepared FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()
) AS open;
