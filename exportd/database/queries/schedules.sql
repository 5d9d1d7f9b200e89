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

-- name: get
-- $1 organization, $2 code
SELECT id, organization, code, name, entities, format, destinations, rule::text, version,
       created_at, last_due_at, next_due_at, origin::text
FROM exportd.schedule
WHERE organization = $1 AND code = $2 AND deleted_at IS NULL;

-- name: insert
-- $1 declarations: a JSON array, by column; $2 first due time, $3 now, $4 origin, $5 actor
INSERT INTO exportd.schedule
    (organization, code, name, entities, format, destinations, rule, next_due_at, created_at, modified_at, origin,
     created_by, modified_by)
SELECT organization, code, name, entities, format, destinations, rule, $2, $3, $3, $4::text::exportd.origin, $5, $5
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
-- Lock a schedule for firing, if it is still as it was read: neither fired, nor edited, nor deleted since; and not paused.
-- $1 schedule, $2 version, $3 next due time
SELECT id
FROM exportd.schedule
WHERE id = $1 AND version = $2 AND next_due_at = $3 AND deleted_at IS NULL AND paused_at IS NULL
FOR NO KEY UPDATE;

-- name: hold_named
-- Lock the schedules of a code for firing.
-- $1 organization (null: any), $2 code
SELECT id, organization
FROM exportd.schedule
WHERE code = $2 AND ($1::text IS NULL OR organization = $1) AND deleted_at IS NULL
ORDER BY id
FOR NO KEY UPDATE;

-- name: queue_job
-- A job with what the schedule says now; none when it has an unfinished one, or one of the same due time.
-- $1 schedule, $2 due time (null: now), $3 now (null: the server's)
WITH queued AS (
    INSERT INTO exportd.job
        (organization, schedule_id, schedule_code, due_at, entities, format, destinations, created_at)
    SELECT organization, id, code, coalesce($2::timestamptz, clock_timestamp()), entities, format, destinations,
           coalesce($3::timestamptz, clock_timestamp())
    FROM exportd.schedule
    WHERE id = $1
    ON CONFLICT DO NOTHING
    RETURNING id, state
)
SELECT id, pg_notify('exportd_events', json_build_object('kind', 'job_queued', 'id', id, 'state', state)::text)
FROM queued;

-- name: has_fired
-- $1 schedule, $2 due time
SELECT EXISTS (SELECT FROM exportd.job WHERE schedule_id = $1 AND due_at = $2);

-- name: move_on
-- $1 schedule, $2 last due time, $3 next due time
UPDATE exportd.schedule
SET last_due_at = $2, next_due_at = $3
WHERE id = $1;

-- name: unfinished_job
-- $1 schedule
SELECT id, state::text
FROM exportd.job
WHERE schedule_id = $1 AND state IN ('PENDING', 'RUNNING');
