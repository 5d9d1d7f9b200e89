-- What operators do with schedules of any organization and origin. All transactions are READ COMMITTED: a statement
-- after a lock must see what the lock waited for.

-- name: hold
-- Lock a schedule: firings, edits, and the positions of a finishing job, wait until the end of the transaction.
-- $1 schedule, $2 organization (null: any)
SELECT id, organization, code, entities, paused_at, paused_by
FROM exportd.schedule
WHERE id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR organization = $2)
FOR NO KEY UPDATE;

-- name: pause
-- $1 schedule, $2 actor
UPDATE exportd.schedule
SET paused_at = clock_timestamp(), paused_by = $2
WHERE id = $1 AND paused_at IS NULL;

-- name: standing
-- Pauses, newest jobs with the sums of their figures, and when the entity that is furthest behind was last read: null
-- while one has yet to be.
-- $1 schedules
SELECT schedule.id, schedule.paused_at, schedule.paused_by, newest.id AS job_id, newest.state::text, newest.reason,
       newest.message, newest.started_at, newest.finished_at, figures.rows, figures.size_bytes, reached.read_until
FROM exportd.schedule
LEFT JOIN LATERAL (
    SELECT job.id, job.state, job.reason, job.message, job.started_at, job.finished_at, job.progress
    FROM exportd.job
    WHERE job.schedule_id = schedule.id
    ORDER BY job.created_at DESC, job.id DESC
    LIMIT 1
) AS newest ON true
CROSS JOIN LATERAL (
    SELECT coalesce(sum((value ->> 'rows')::bigint), 0)::bigint AS rows,
           coalesce(sum((value ->> 'size_bytes')::bigint), 0)::bigint AS size_bytes
    FROM jsonb_each(newest.progress -> 'entities')
) AS figures
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) = cardinality(schedule.entities) THEN min(position.taken_at) END AS read_until
    FROM exportd.position
    WHERE position.schedule_id = schedule.id AND position.entity = ANY (schedule.entities)
) AS reached
WHERE schedule.id = ANY ($1::uuid[]);

-- name: positions
-- Where a schedule stands with each entity that it exports: the job that read it, since when it stands there, and whether
-- the next run starts anew.
-- $1 schedule
SELECT position.entity, position.job_id, position.taken_at, job.finished_at AS since,
       position.expired OR coalesce(position.put_back_at > position.taken_at, false) AS starts_anew
FROM exportd.position
JOIN exportd.schedule ON schedule.id = position.schedule_id
LEFT JOIN exportd.job ON job.id = position.job_id
WHERE position.schedule_id = $1 AND position.entity = ANY (schedule.entities)
ORDER BY array_position(schedule.entities, position.entity);

-- name: resume
-- $1 schedule
UPDATE exportd.schedule
SET paused_at = NULL, paused_by = NULL
WHERE id = $1;

-- name: request_refresh
-- $1 schedule, $2 entity, $3 actor
INSERT INTO exportd.refresh_request (schedule_id, entity, requested_by)
VALUES ($1, $2, $3)
ON CONFLICT (schedule_id, entity) DO UPDATE
SET requested_at = clock_timestamp(), requested_by = excluded.requested_by;

-- name: wheel
-- How many schedules there are, how many of them are paused, and when the next of the others is due.
SELECT count(*) AS schedules,
       count(paused_at) AS paused,
       min(next_due_at) FILTER (WHERE paused_at IS NULL) AS next_due
FROM exportd.schedule
WHERE deleted_at IS NULL;

-- name: lag
-- Per entity, when the schedule that is furthest behind last read it.
SELECT position.entity, min(position.taken_at) AS read_until
FROM exportd.position
JOIN exportd.schedule ON schedule.id = position.schedule_id AND schedule.deleted_at IS NULL
GROUP BY position.entity
ORDER BY position.entity;

-- name: hold_job
-- Lock a job, so that the pruner lets go of it before or after, and read what it was. $1 job
SELECT id, organization, schedule_id, state::text
FROM exportd.job
WHERE id = $1
FOR SHARE;

-- name: past_windows
-- Where a past job's windows began, for each entity that its schedule exports now. ``incremental``: it and every later
-- run held the entity's changes only; later ones may have been deleted unless the job holds the log. ``logged``: the
-- change log still reaches back to there.
-- $1 schedule, $2 job
SELECT wanted.entity,
       position.entity IS NOT NULL AS positioned,
       held.mode = 'incremental' AND (job.log_hold IS NULL OR NOT EXISTS (
           SELECT
           FROM exportd.job AS later
           CROSS JOIN jsonb_to_recordset(later.extraction -> 'entities') AS extracted (entity text, mode text)
           WHERE later.schedule_id = schedule.id AND later.state = 'SUCCEEDED' AND later.finished_at > job.finished_at
               AND extracted.entity = wanted.entity AND extracted.mode = 'full')) AS incremental,
       job.log_hold <= pg_snapshot_xmin(held.previous::pg_snapshot) AS logged,
       held.previous AS snapshot, before.taken_at, before.guards::text
FROM exportd.schedule
JOIN exportd.job ON job.id = $2
CROSS JOIN unnest(schedule.entities) WITH ORDINALITY AS wanted (entity, place)
LEFT JOIN exportd.position ON position.schedule_id = schedule.id AND position.entity = wanted.entity
LEFT JOIN jsonb_to_recordset(job.extraction -> 'entities') AS held (entity text, mode text, previous text)
    ON held.entity = wanted.entity
LEFT JOIN LATERAL (
    SELECT (earlier.extraction ->> 'taken_at')::timestamptz AS taken_at,
           CASE jsonb_typeof(extracted.guards)
               WHEN 'string' THEN coalesce(
                   (SELECT document FROM exportd.shared_document WHERE digest = extracted.guards #>> '{}'),
                   '{}')  -- those compare as changed
               ELSE extracted.guards
           END AS guards
    FROM exportd.job AS earlier
    CROSS JOIN jsonb_to_recordset(earlier.extraction -> 'entities') AS extracted (entity text, guards jsonb)
    WHERE earlier.schedule_id = schedule.id AND earlier.state = 'SUCCEEDED' AND earlier.finished_at <= job.started_at
        AND earlier.extraction ->> 'snapshot' = held.previous AND extracted.entity = wanted.entity
    ORDER BY earlier.due_at DESC
    LIMIT 1
) AS before ON true
WHERE schedule.id = $1
ORDER BY wanted.place;

-- name: request_backfill
-- $1 schedule, $2 array of {entity, job_id, snapshot, taken_at, guards, full_reason}, $3 actor
INSERT INTO exportd.backfill_request
    (schedule_id, entity, job_id, snapshot, taken_at, guards, full_reason, requested_by)
SELECT $1, asked.entity, asked.job_id, asked.snapshot::pg_snapshot, asked.taken_at, asked.guards, asked.full_reason, $3
FROM jsonb_to_recordset($2::text::jsonb) AS asked
    (entity text, job_id uuid, snapshot text, taken_at timestamptz, guards jsonb, full_reason text)
ON CONFLICT (schedule_id, entity) DO UPDATE
SET job_id = excluded.job_id,
    snapshot = excluded.snapshot,
    taken_at = excluded.taken_at,
    guards = excluded.guards,
    full_reason = excluded.full_reason,
    requested_at = clock_timestamp(),
    requested_by = excluded.requested_by;

-- name: hold_unfinished_job
-- Lock a schedule's unfinished job: no daemon claims it until the end of the transaction. ``begins`` if it has yet to.
-- $1 schedule
SELECT id, state = 'PENDING' AND phase = 'EXTRACTING' AS begins
FROM exportd.job
WHERE schedule_id = $1 AND state IN ('PENDING', 'RUNNING')
FOR NO KEY UPDATE;
