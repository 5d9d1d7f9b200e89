-- Destinations as rows: those of the configuration, and those that were made through the API.
--
-- All transactions are READ COMMITTED: a statement after a lock must see what the lock waited for.

-- name: lock_edits
-- One edit at a time, until the end of its transaction: two would both take a free code.
SELECT pg_advisory_xact_lock(hashtextextended('exportd destinations', 0));

-- name: hold_for_reference
-- The codes of destinations, which cannot be deleted until the end of the transaction.
-- $1 organization, $2 destinations
SELECT id, code
FROM exportd.destination
WHERE organization = $1 AND id = ANY ($2::uuid[]) AND deleted_at IS NULL
ORDER BY id
FOR SHARE;

-- name: page
-- The newest first, those that come after ($3, $4).
-- $1 organization (null: any), $2 destinations (null: any), $3 created at (null: from the start), $4 id, $5 how many
SELECT id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
       modified_by
FROM exportd.destination
WHERE ($1::text IS NULL OR organization = $1) AND deleted_at IS NULL
    AND ($2::uuid[] IS NULL OR id = ANY ($2))
    AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $5;

-- name: all
SELECT id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
       modified_by
FROM exportd.destination
WHERE deleted_at IS NULL
ORDER BY organization, code;

-- name: get
-- $1 organization, $2 destination
SELECT id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
       modified_by
FROM exportd.destination
WHERE organization = $1 AND id = $2 AND deleted_at IS NULL;

-- name: hold
-- The same, locked: schedules that want to refer to it wait until the end of the transaction.
-- $1 organization, $2 destination
SELECT id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
       modified_by
FROM exportd.destination
WHERE organization = $1 AND id = $2 AND deleted_at IS NULL
FOR UPDATE;

-- name: code_is_taken
-- $1 organization, $2 code
SELECT EXISTS (SELECT FROM exportd.destination WHERE organization = $1 AND code = $2 AND deleted_at IS NULL);

-- name: insert
-- $1 organization, $2 code, $3 name, $4 origin, $5 settings, $6 now, $7 actor
INSERT INTO exportd.destination
    (organization, code, name, origin, settings, created_at, modified_at, created_by, modified_by)
VALUES ($1, $2, $3, $4::text::exportd.origin, $5::text::jsonb, $6, $6, $7, $7)
RETURNING id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
          modified_by;

-- name: insert_all
-- $1 destinations: a JSON array with what `insert` takes, by column; $2 origin, $3 now, $4 actor
INSERT INTO exportd.destination
    (organization, code, name, origin, settings, created_at, modified_at, created_by, modified_by)
SELECT organization, code, name, $2::text::exportd.origin, settings, $3, $3, $4, $4
FROM jsonb_to_recordset($1::text::jsonb) AS declared (organization text, code text, name text, settings jsonb);

-- name: edit_all
-- $1 destinations: a JSON array of id, name and settings; $2 origin, $3 now, $4 actor
UPDATE exportd.destination
SET name = edit.name,
    origin = $2::text::exportd.origin,
    settings = edit.settings,
    modified_at = $3,
    modified_by = $4,
    version = version + 1
FROM jsonb_to_recordset($1::text::jsonb) AS edit (id uuid, name text, settings jsonb)
WHERE destination.id = edit.id;

-- name: delete_all
-- $1 destinations, $2 now
UPDATE exportd.destination
SET deleted_at = $2
WHERE id = ANY ($1::uuid[]);

-- name: edit
-- $1 destination, $2 name, $3 origin, $4 settings, $5 now, $6 actor
UPDATE exportd.destination
SET name = $2,
    origin = $3::text::exportd.origin,
    settings = $4::text::jsonb,
    modified_at = $5,
    modified_by = $6,
    version = version + 1
WHERE id = $1
RETURNING id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
          modified_by;

-- name: delete
-- $1 destination, $2 now
UPDATE exportd.destination
SET deleted_at = $2
WHERE id = $1;

-- name: pause
-- $1 destination, $2 actor
UPDATE exportd.destination
SET paused_at = clock_timestamp(), paused_by = $2
WHERE id = $1 AND paused_at IS NULL;

-- name: pause_of
-- $1 destination
SELECT paused_at, paused_by
FROM exportd.destination
WHERE id = $1 AND deleted_at IS NULL;

-- name: pauses
SELECT organization, code, paused_at, paused_by
FROM exportd.destination
WHERE deleted_at IS NULL AND paused_at IS NOT NULL;

-- name: resume
-- $1 destination
UPDATE exportd.destination
SET paused_at = NULL, paused_by = NULL
WHERE id = $1;

-- name: hold_any
-- Lock a destination, whoever owns it.
-- $1 destination
SELECT id, organization, code, paused_at, paused_by
FROM exportd.destination
WHERE id = $1 AND deleted_at IS NULL
FOR UPDATE;

-- name: health
-- Destinations with the last thing that each received, and the last job that failed because of a destination and delivers
-- there, if that is later. At most so many: first those that are paused, then in the order of their codes.
-- $1 how many
SELECT destination.id, destination.organization, destination.code, destination.paused_at, destination.paused_by,
       received.published_at AS last_success_at, failed.finished_at AS last_failure_at, failed.reason, failed.message
FROM exportd.destination
LEFT JOIN LATERAL (
    SELECT delivery.published_at
    FROM exportd.delivery
    JOIN exportd.job ON job.id = delivery.job_id AND job.organization = destination.organization
    WHERE delivery.destination = destination.code
    ORDER BY delivery.published_at DESC
    LIMIT 1
) AS received ON true
LEFT JOIN LATERAL (
    SELECT job.finished_at, job.reason, job.message
    FROM exportd.job
    WHERE job.organization = destination.organization AND destination.code = ANY (job.destinations)
        AND job.state = 'FAILED'
        AND job.reason IN ('DESTINATION_UNAVAILABLE', 'DESTINATION_REFUSED', 'DESTINATION_MISSING')
    ORDER BY job.finished_at DESC
    LIMIT 1
) AS failed ON true
WHERE destination.deleted_at IS NULL
ORDER BY destination.paused_at IS NULL, destination.organization, destination.code
LIMIT $1;

-- name: organizations
-- Those that have a destination or a schedule.
SELECT organization FROM exportd.destination WHERE deleted_at IS NULL
UNION
SELECT organization FROM exportd.schedule WHERE deleted_at IS NULL
ORDER BY 1;

-- name: schedules_using
-- $1 organization, $2 code
SELECT code
FROM exportd.schedule
WHERE organization = $1 AND $2 = ANY (destinations) AND deleted_at IS NULL
ORDER BY code;

-- name: job_using
-- A job that is not finished and delivers there, if there is one.
-- $1 organization, $2 code
SELECT id
FROM exportd.job
WHERE organization = $1 AND $2 = ANY (destinations) AND state IN ('PENDING', 'RUNNING')
LIMIT 1;

-- name: forget_positions
-- The place behind a code is another one now, and holds nothing: the next run of its schedules is full.
-- $1 organization, $2 code
UPDATE exportd.position
SET destinations = array_remove(position.destinations, $2)
FROM exportd.schedule
WHERE schedule.id = position.schedule_id AND schedule.organization = $1 AND $2 = ANY (position.destinations);

-- name: forget_positions_all
-- The same of several. $1 destinations: a JSON array of organization and code
WITH moved AS (
    SELECT organization, array_agg(code) AS codes
    FROM jsonb_to_recordset($1::text::jsonb) AS declared (organization text, code text)
    GROUP BY organization
)
UPDATE exportd.position
SET destinations = ARRAY(SELECT kept FROM unnest(position.destinations) AS kept WHERE kept <> ALL (moved.codes))
FROM exportd.schedule
JOIN moved USING (organization)
WHERE schedule.id = position.schedule_id AND position.destinations && moved.codes;

-- name: tell_changed
SELECT pg_notify('exportd_events', json_build_object('kind', 'destination_changed')::text);

-- name: tell_waiting_jobs
-- Jobs that waited for a destination may be taken now.
SELECT pg_notify('exportd_events', json_build_object('kind', 'job_queued')::text);
