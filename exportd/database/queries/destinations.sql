-- Destinations as rows: those of the configuration, and those that were made through the API.
--
-- All transactions are READ COMMITTED: a statement after a lock must see what the lock waited for.

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
-- $1 organization (null: any), $2 destinations (null: any), $3 created at (null: from the start), $4 id, $5 how many,
-- $6 a text of the name, the code or the bucket, in small letters (null: any)
SELECT id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
       modified_by
FROM exportd.destination
WHERE ($1::text IS NULL OR organization = $1) AND deleted_at IS NULL
    AND ($2::uuid[] IS NULL OR id = ANY ($2))
    AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
    AND ($6::text IS NULL OR strpos(lower(name), $6) > 0 OR strpos(lower(code), $6) > 0
         OR strpos(lower(settings ->> 'bucket'), $6) > 0)
ORDER BY created_at DESC, id DESC
LIMIT $5;

-- name: sorted
-- Their ids by $3, those without it last, then the newest first.
-- $1 organization (null: any), $2 a text of the name, the code or the bucket, in small letters (null: any), $3 by what,
-- $4 from the largest on, $5 how many are left out first, $6 how many
SELECT id
FROM exportd.destination
CROSS JOIN LATERAL (
    SELECT CASE $3::text
        WHEN 'name' THEN lower(name)
        WHEN 'code' THEN code
        WHEN 'organization' THEN organization
        WHEN 'kind' THEN settings ->> 'type'
        WHEN 'place' THEN coalesce(settings ->> 'bucket', settings ->> 'directory')
        -- as `health` of destination_operations shows them
        WHEN 'lastSuccess' THEN (
            SELECT to_char(delivery.published_at, 'YYYYMMDDHH24MISSUS')
            FROM exportd.delivery
            JOIN exportd.job ON job.id = delivery.job_id AND job.organization = destination.organization
            WHERE delivery.destination = destination.code
            ORDER BY delivery.published_at DESC
            LIMIT 1)
        WHEN 'lastFailure' THEN (
            SELECT to_char(job.finished_at, 'YYYYMMDDHH24MISSUS')
            FROM exportd.job
            WHERE job.organization = destination.organization AND destination.code = ANY (job.destinations)
                AND job.state = 'FAILED'
                AND job.reason IN ('DESTINATION_UNAVAILABLE', 'DESTINATION_REFUSED', 'DESTINATION_MISSING')
            ORDER BY job.finished_at DESC
            LIMIT 1)
        WHEN 'origin' THEN origin::text
        WHEN 'state' THEN CASE WHEN paused_at IS NULL THEN 'in use' ELSE 'paused' END
    END AS compared
) AS asked
WHERE ($1::text IS NULL OR organization = $1) AND deleted_at IS NULL
    AND ($2::text IS NULL OR strpos(lower(name), $2) > 0 OR strpos(lower(code), $2) > 0
         OR strpos(lower(settings ->> 'bucket'), $2) > 0)
ORDER BY compared IS NULL, CASE WHEN NOT $4::boolean THEN compared END, CASE WHEN $4 THEN compared END DESC,
         created_at DESC, id DESC
OFFSET $5::bigint
LIMIT $6::bigint;

-- name: all
SELECT id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
       modified_by
FROM exportd.destination
WHERE deleted_at IS NULL
ORDER BY organization, code;

-- name: get
-- $1 organization (null: any), $2 destination
SELECT id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
       modified_by
FROM exportd.destination
WHERE ($1::text IS NULL OR organization = $1) AND id = $2 AND deleted_at IS NULL;

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
-- $1 declarations: a JSON array, by column; $2 origin, $3 now, $4 actor
INSERT INTO exportd.destination
    (organization, code, name, origin, settings, created_at, modified_at, created_by, modified_by)
SELECT organization, code, name, $2::text::exportd.origin, settings, $3, $3, $4, $4
FROM jsonb_to_recordset($1::text::jsonb) AS declared (organization text, code text, name text, settings jsonb)
RETURNING id, organization, code, name, origin::text, settings::text, version, created_at, modified_at, created_by,
          modified_by;

-- name: edit
-- $1 destinations: a JSON array of id, name and settings; $2 origin, $3 now, $4 actor
UPDATE exportd.destination
SET name = edit.name,
    origin = $2::text::exportd.origin,
    settings = edit.settings,
    modified_at = $3,
    modified_by = $4,
    version = version + 1
FROM jsonb_to_recordset($1::text::jsonb) AS edit (id uuid, name text, settings jsonb)
WHERE destination.id = edit.id
RETURNING destination.id, organization, code, destination.name, origin::text, destination.settings::text, version,
          created_at, modified_at, created_by, modified_by;

-- name: delete
-- $1 destinations, $2 now
UPDATE exportd.destination
SET deleted_at = $2
WHERE id = ANY ($1::uuid[]);

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
-- The place behind each code is another one now, and holds nothing: the next run of its schedules is full.
-- $1 destinations: a JSON array of organization and code
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
