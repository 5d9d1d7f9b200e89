-- Schedules: kept equal to their declarations, and fired.
--
-- All transactions are READ COMMITTED: a statement after a lock must see what the lock waited for. Rules pass as
-- text. Times are the daemon's, handed in, but for a run that a person asks for.

-- name: lock_reconciling
-- One daemon reconciles at a time, until the end of its transaction: two would both insert a new schedule.
SELECT pg_advisory_xact_lock(hashtextextended('exportd schedules', 0));

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

-- name: insert_all
-- $1 declarations: a JSON array with what `insert` takes, by column; $2 first due time, $3 now
INSERT INTO exportd.schedule
    (organization, code, name, entities, format, destinations, rule, next_due_at, created_at, modified_at)
SELECT organization, code, name, entities, format, destinations, rule, $2, $3, $3
FROM jsonb_to_recordset($1::text::jsonb)
    AS declared (organization text, code text, name text, entities text[], format text, destinations text[], rule jsonb)
RETURNING id, organization, code, name, entities, format, destinations, rule::text, version,
          created_at, last_due_at, next_due_at, origin::text;

-- name: edit_all
-- $1 edits: a JSON array with what `edit` takes, by column; $2 now, $3 actor
UPDATE exportd.schedule
SET name = edit.name,
    entities = edit.entities,
    format = edit.format,
    destinations = edit.destinations,
    rule = edit.rule,
    next_due_at = edit.next_due_at,
    modified_at = $2,
    origin = 'CONFIGURATION',
    modified_by = $3,
    version = version + 1
FROM jsonb_to_recordset($1::text::jsonb)
    AS edit (id uuid, name text, entities text[], format text, destinations text[], rule jsonb, next_due_at timestamptz)
WHERE schedule.id = edit.id
RETURNING schedule.id, organization, code, schedule.name, schedule.entities, schedule.format, schedule.destinations,
          schedule.rule::text, version, created_at, last_due_at, schedule.next_due_at, origin::text;

-- name: drop_positions_all
-- $1 edits: a JSON array of schedules (id) and the entities that keep their positions (keeping)
DELETE FROM exportd.position
USING jsonb_to_recordset($1::text::jsonb) AS edit (id uuid, keeping text[])
WHERE position.schedule_id = edit.id AND position.entity <> ALL (edit.keeping);

-- name: delete_all
-- $1 schedules, $2 now
UPDATE exportd.schedule
SET deleted_at = $2
WHERE id = ANY ($1::uuid[]);

-- name: insert
-- $1 organization, $2 code, $3 name, $4 entities, $5 format, $6 destinations, $7 rule, $8 first due time, $9 now,
-- $10 origin, $11 actor
INSERT INTO exportd.schedule
    (organization, code, name, entities, format, destinations, rule, next_due_at, created_at, modified_at, origin,
     created_by, modified_by)
VALUES ($1, $2, $3, $4::text[], $5, $6::text[], $7::text::jsonb, $8, $9, $9, $10::text::exportd.origin, $11, $11)
RETURNING id, organization, code, name, entities, format, destinations, rule::text, version,
          created_at, last_due_at, next_due_at, origin::text;

-- name: edit
-- $1 schedule, $2 name, $3 entities, $4 format, $5 destinations, $6 rule, $7 next due time, $8 now, $9 origin,
-- $10 actor
UPDATE exportd.schedule
SET name = $2,
    entities = $3::text[],
    format = $4,
    destinations = $5::text[],
    rule = $6::text::jsonb,
    next_due_at = $7,
    modified_at = $8,
    origin = $9::text::exportd.origin,
    modified_by = $10,
    version = version + 1
WHERE id = $1
RETURNING id, organization, code, name, entities, format, destinations, rule::text, version,
          created_at, last_due_at, next_due_at, origin::text;

-- name: delete
-- $1 schedule, $2 now
UPDATE exportd.schedule
SET deleted_at = $2
WHERE id = $1;

-- name: drop_positions
-- Entities without a position start with their full content.
-- $1 schedule, $2 entities that keep theirs
DELETE FROM exportd.position
WHERE schedule_id = $1 AND entity <> ALL ($2::text[]);

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

-- name: tell_changed
-- $1 schedule (null: any)
SELECT pg_notify('exportd_events', json_build_object('kind', 'schedule_changed', 'schedule', $1::uuid)::text);
