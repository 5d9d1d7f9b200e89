-- What operators do with schedules, whoever owns them. All transactions are READ COMMITTED: a statement after a lock
-- must see what the lock waited for.

-- name: hold
-- Lock a schedule: firings, edits, and the positions of a finishing job, wait until the end of the transaction.
-- $1 schedule
SELECT id, organization, code, entities, paused_at, paused_by
FROM exportd.schedule
WHERE id = $1 AND deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: get
-- $1 schedule
SELECT id, organization, code, name, entities, format, destinations, rule::text, version,
       created_at, last_due_at, next_due_at, origin::text
FROM exportd.schedule
WHERE id = $1 AND deleted_at IS NULL;

-- name: pause
-- $1 schedule, $2 actor
UPDATE exportd.schedule
SET paused_at = clock_timestamp(), paused_by = $2
WHERE id = $1 AND paused_at IS NULL;

-- name: pauses
-- $1 schedule, or NULL for all that are paused
SELECT id, paused_at, paused_by
FROM exportd.schedule
WHERE deleted_at IS NULL AND paused_at IS NOT NULL AND ($1::uuid IS NULL OR id = $1);

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
