-- Jobs as their organization sees them, and exports that it asks for without a schedule.

-- name: page
-- The newest first, those that come after ($7, $8).
-- $1 organization, $2 jobs (null: any), $3 schedule (null: any), $4 state (null: any), $5 created at or after
-- (null: any), $6 created before (null: any), $7 created at (null: from the start), $8 id, $9 how many
SELECT id, schedule_id, state::text, created_at, started_at
FROM exportd.job
WHERE organization = $1
    AND ($2::uuid[] IS NULL OR id = ANY ($2))
    AND ($3::uuid IS NULL OR schedule_id = $3)
    AND ($4::text IS NULL OR state = $4::text::exportd.job_state)
    AND ($5::timestamptz IS NULL OR created_at >= $5)
    AND ($6::timestamptz IS NULL OR created_at < $6)
    AND ($7::timestamptz IS NULL OR (created_at, id) < ($7, $8::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $9;

-- name: queue
-- A job without a schedule, due now.
-- $1 organization, $2 entities, $3 format, $4 destinations
WITH queued AS (
    INSERT INTO exportd.job (organization, due_at, entities, format, destinations)
    VALUES ($1, clock_timestamp(), $2::text[], $3, $4::text[])
    RETURNING id, state
)
SELECT id, pg_notify('exportd_events', json_build_object('kind', 'job_queued', 'id', id, 'state', state)::text)
FROM queued;

-- name: equal
-- A job without a schedule that has yet to read, and will read the same.
-- $1 organization, $2 entities, $3 format, $4 destinations
SELECT id
FROM exportd.job
WHERE organization = $1 AND schedule_id IS NULL AND state = 'PENDING' AND phase = 'EXTRACTING'
    AND cancel_requested_at IS NULL AND format = $3
    AND entities @> $2::text[] AND entities <@ $2::text[]
    AND destinations @> $4::text[] AND destinations <@ $4::text[]
ORDER BY created_at
LIMIT 1;
