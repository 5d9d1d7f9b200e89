-- What operators do with jobs. All transactions are READ COMMITTED: a statement after a lock must see what the lock
-- waited for.

-- name: pause
-- $1 actor
INSERT INTO exportd.pause (paused_by) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: resume
DELETE FROM exportd.pause;

-- name: paused
SELECT paused_at, paused_by FROM exportd.pause;

-- name: hold
-- Lock a job: claiming and ending it wait until the end of the transaction.
-- $1 job, $2 organization (null: any)
SELECT id, organization, schedule_id, schedule_code, state::text
FROM exportd.job
WHERE id = $1 AND ($2::text IS NULL OR organization = $2)
FOR NO KEY UPDATE;

-- name: request_cancel
-- The holder finds it when it next extends the lease; the event makes that soon.
-- $1 job
WITH asked AS (
    UPDATE exportd.job
    SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
    WHERE id = $1
    RETURNING id, state
)
SELECT pg_notify('exportd_events', json_build_object('kind', 'cancel_requested', 'id', id, 'state', state)::text)
FROM asked;

-- name: queue_again
-- A job without a schedule, like one that there was.
-- $1 job
WITH queued AS (
    INSERT INTO exportd.job (organization, due_at, entities, format, destinations, start_date)
    SELECT organization, clock_timestamp(), entities, format, destinations, start_date
    FROM exportd.job
    WHERE id = $1
    RETURNING id, state
)
SELECT id, pg_notify('exportd_events', json_build_object('kind', 'job_queued', 'id', id, 'state', state)::text)
FROM queued;

-- name: watched
-- What listeners follow of a job, one row a job: those that run, and some others.
-- $1 jobs
SELECT id, organization, schedule_code, state::text, phase::text, attempt, lease_holder AS holder, progress::text, reason,
       message
FROM exportd.job
WHERE state = 'RUNNING' OR id = ANY ($1::uuid[]);

-- name: queue_state
-- The jobs that are not finished, by state, and since when the oldest that is due waits.
SELECT count(*) FILTER (WHERE state = 'PENDING') AS pending,
       count(*) FILTER (WHERE state = 'RUNNING') AS running,
       min(due_at) FILTER (WHERE state = 'PENDING' AND not_before <= clock_timestamp()) AS oldest_waiting
FROM exportd.job
WHERE state IN ('PENDING', 'RUNNING');

-- name: leases
-- The jobs that run with a spool, and until when their leases are good.
-- $1 spool
SELECT id, organization, schedule_code, state::text, phase::text, attempt, started_at, lease_until, progress::text
FROM exportd.job
WHERE state = 'RUNNING' AND lease_spool_id = $1
ORDER BY started_at, id;

-- name: stalled
-- The jobs that wait for the database: those that run, and those whose last attempt ended for it.
SELECT id, organization, schedule_code, state::text, progress::text, message
FROM exportd.job
WHERE state = 'RUNNING' AND progress ? 'stalls'
    OR state = 'PENDING' AND reason IN ('LOCK_NOT_AVAILABLE', 'COPY_SILENT')
ORDER BY created_at, id
LIMIT 20;
