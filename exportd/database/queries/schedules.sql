-- Schedules: kept equal to their declarations, edited, and fired.
--
-- All transactions are READ COMMITTED: a statement after a lock must see what the lock waited for. Rules pass as
-- text. Times are the daemon's, handed in, but for a run that a person asks for.

-- name: all
SELECT id, organization, code, name, entities, format, destinations, rule::text, version,
       created_at, last_due_at, next_due_at, origin::text
FROM exportd.schedule
WHERE deleted_at IS NULL
ORDER BY organization, code;

-- name: some
-- $1 schedules
SELECT id, organization, code, name, entities, format, destinations, rule::text, version,
       created_at, last_due_at, next_due_at, origin::text
FROM exportd.schedule
WHERE id = ANY ($1::uuid[]) AND deleted_at IS NULL;

-- name: hold_all
-- The same as `all`; firings, edits and the positions of finishing jobs wait until the end of the transaction.
SELECT id, organization, code, name, entities, format, destinations, rule::text, version,
       created_at, last_due_at, next_due_at, origin::text
FROM exportd.schedule
WHERE deleted_at IS NULL
ORDER BY id
FOR NO KEY UPDATE;

-- name: insert
-- Due at once, whatever the rules. $1 declarations: a JSON array, by column; $2 now, $3 origin, $4 actor
INSERT INTO exportd.schedule
    (organization, code, name, entities, format, destinations, rule, next_due_at, created_at, modified_at, origin,
     created_by, modified_by)
SELECT organization, code, name, entities, format, destinations, rule, $2, $2, $2, $3::text::exportd.origin, $4, $4
FROM jsonb_to_recordset($1::text::jsonb)
    AS declared (organization text, code text, name text, entities text[], format text, destinations text[], rule jsonb)
RETURNING id, organization, code, name, entities, format, destinations, rule::text, version,
          created_at, last_due_at, next_due_at, origin::text;

-- name: edit
-- $1 edits: a JSON array of the declarations with id and next_due_at, by column; $2 now, $3 origin, $4 actor
UPDATE exportd.schedule
SET code = edit.code,
    name = edit.name,
    entities = edit.entities,
    format = edit.format,
    destinations = edit.destinations,
    rule = edit.rule,
    next_due_at = edit.next_due_at,
    modified_at = $2,
    origin = $3::text::exportd.origin,
    modified_by = $4,
    version = version + 1
FROM jsonb_to_recordset($1::text::jsonb)
    AS edit (id uuid, code text, name text, entities text[], format text, destinations text[], rule jsonb,
             next_due_at timestamptz)
WHERE schedule.id = edit.id
RETURNING schedule.id, organization, schedule.code, schedule.name, schedule.entities, schedule.format,
          schedule.destinations, schedule.rule::text, version, created_at, last_due_at, schedule.next_due_at,
          origin::text;

-- name: drop_positions
-- Entities without a position start with their full content.
-- $1 edits: a JSON array of schedules (id) and the entities that keep their positions (keeping)
DELETE FROM exportd.position
USING jsonb_to_recordset($1::text::jsonb) AS edit (id uuid, keeping text[])
WHERE position.schedule_id = edit.id AND position.entity <> ALL (edit.keeping);

-- name: delete
-- With the positions. $1 schedules, $2 now
WITH deleted AS (
    UPDATE exportd.schedule
    SET deleted_at = $2
    WHERE id = ANY ($1::uuid[])
    RETURNING id
)
DELETE FROM exportd.position
USING deleted
WHERE position.schedule_id = deleted.id;

-- name: hold
-- Lock schedules for firing, those that are still as they were read: neither fired, nor edited, nor deleted since; and
-- not paused. In one order, so that two daemons that fire the same ones do not wait for each other.
-- One array a column: $1 schedule, $2 version, $3 next due time
SELECT schedule.id
FROM exportd.schedule
JOIN unnest($1::uuid[], $2::integer[], $3::timestamptz[]) AS known (id, version, next_due_at)
    ON schedule.id = known.id AND schedule.version = known.version AND schedule.next_due_at = known.next_due_at
WHERE schedule.deleted_at IS NULL AND schedule.paused_at IS NULL
ORDER BY schedule.id
FOR NO KEY UPDATE OF schedule;

-- name: queue_jobs
-- Jobs with what their schedules say now; none for one that has an unfinished job, or a job of the same due time.
-- One array a column: $1 schedule, $2 due time (null: now); $3 now (null: the server's)
WITH queued AS (
    INSERT INTO exportd.job
        (organization, schedule_id, schedule_code, due_at, entities, format, destinations, created_at)
    SELECT organization, id, code, coalesce(fired.due_at, clock_timestamp()), entities, format, destinations,
           coalesce($3::timestamptz, clock_timestamp())
    FROM exportd.schedule
    JOIN unnest($1::uuid[], $2::timestamptz[]) AS fired (id, due_at) USING (id)
    ORDER BY id
    ON CONFLICT DO NOTHING
    RETURNING id, schedule_id, state
)
SELECT id, schedule_id,
       pg_notify('exportd_events', json_build_object('kind', 'job_queued', 'id', id, 'state', state)::text)
FROM queued;

-- name: move_on
-- The schedules that have a job of that due time: just queued, or of a run that a person asked for, which can have had
-- the same due time, to the microsecond.
-- One array a column: $1 schedule, $2 last due time, $3 next due time
UPDATE exportd.schedule
SET last_due_at = fired.due_at, next_due_at = fired.next_due_at
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS fired (id, due_at, next_due_at)
WHERE schedule.id = fired.id
    AND EXISTS (SELECT FROM exportd.job WHERE job.schedule_id = fired.id AND job.due_at = fired.due_at);

-- name: unfinished_job
-- $1 schedule
SELECT id, state::text
FROM exportd.job
WHERE schedule_id = $1 AND state IN ('PENDING', 'RUNNING');
