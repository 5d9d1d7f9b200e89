-- Schedules as their organization reads and edits them. Editing holds the same lock as reconciling.

-- name: page
-- The newest first, those that come after ($3, $4).
-- $1 organization (null: any), $2 schedules (null: any), $3 created at (null: from the start), $4 id, $5 how many,
-- $6 a text of the name or the code, in small letters, $7 destination, $8 entity, $9 paused (null: any)
SELECT id, organization, code, name, entities, format, destinations, rule::text, version,
       created_at, last_due_at, next_due_at, origin::text, modified_at, created_by, modified_by,
       ARRAY(SELECT destination.id
             FROM exportd.destination
             WHERE destination.organization = schedule.organization AND destination.deleted_at IS NULL
                 AND destination.code = ANY (schedule.destinations)
             ORDER BY array_position(schedule.destinations, destination.code)) AS destination_ids
FROM exportd.schedule
WHERE ($1::text IS NULL OR organization = $1) AND deleted_at IS NULL
    AND ($2::uuid[] IS NULL OR id = ANY ($2))
    AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
    AND ($6::text IS NULL OR strpos(lower(name), $6) > 0 OR strpos(lower(code), $6) > 0)
    AND ($7::text IS NULL OR $7 = ANY (destinations))
    AND ($8::text IS NULL OR $8 = ANY (entities))
    AND ($9::boolean IS NULL OR (paused_at IS NOT NULL) = $9)
ORDER BY created_at DESC, id DESC
LIMIT $5;

-- name: sorted
-- Their ids by $6, those without it last, then the newest first. What is compared is worked out for this one order.
-- $1 organization (null: any), $2 a text of the name or the code, in small letters, $3 destination, $4 entity, $5 paused
-- (null: any), $6 by what, $7 from the largest on, $8 how many are left out first, $9 how many
SELECT id
FROM exportd.schedule
CROSS JOIN LATERAL (
    SELECT CASE $6::text
        WHEN 'name' THEN lower(name)
        WHEN 'code' THEN code
        WHEN 'organization' THEN organization
        -- the firings of a cron expression are not evenly spaced: it has none
        WHEN 'frequency' THEN lpad(((rule ->> 'period')::bigint
            * CASE rule ->> 'unit' WHEN 'MINUTE' THEN 1 WHEN 'HOUR' THEN 60 WHEN 'DAY' THEN 1440 END)::text, 20, '0')
        WHEN 'nextDue' THEN CASE WHEN paused_at IS NULL THEN to_char(next_due_at, 'YYYYMMDDHH24MISSUS') END
        WHEN 'lastRun' THEN (
            SELECT to_char(coalesce(job.finished_at, job.started_at, job.created_at), 'YYYYMMDDHH24MISSUS')
            FROM exportd.job WHERE job.schedule_id = schedule.id ORDER BY job.created_at DESC, job.id DESC LIMIT 1)
        WHEN 'rows' THEN (
            SELECT (SELECT lpad(coalesce(sum((value ->> 'rows')::bigint), 0)::text, 20, '0')
                    FROM jsonb_each(job.progress -> 'entities'))
            FROM exportd.job WHERE job.schedule_id = schedule.id ORDER BY job.created_at DESC, job.id DESC LIMIT 1)
        WHEN 'lag' THEN (
            SELECT CASE WHEN count(*) = cardinality(schedule.entities)
                THEN lpad((1e16 - extract(epoch FROM min(position.taken_at)) * 1e6)::bigint::text, 20, '0') END
            FROM exportd.position
            WHERE position.schedule_id = schedule.id AND position.entity = ANY (schedule.entities))
        WHEN 'destinations' THEN array_to_string(destinations, ', ')
        WHEN 'format' THEN format
        WHEN 'origin' THEN origin::text
    END AS compared
) AS asked
WHERE ($1::text IS NULL OR organization = $1) AND deleted_at IS NULL
    AND ($2::text IS NULL OR strpos(lower(name), $2) > 0 OR strpos(lower(code), $2) > 0)
    AND ($3::text IS NULL OR $3 = ANY (destinations))
    AND ($4::text IS NULL OR $4 = ANY (entities))
    AND ($5::boolean IS NULL OR (paused_at IS NOT NULL) = $5)
ORDER BY compared IS NULL, CASE WHEN NOT $7::boolean THEN compared END, CASE WHEN $7 THEN compared END DESC,
         created_at DESC, id DESC
OFFSET $8::bigint
LIMIT $9::bigint;

-- name: hold
-- Lock a schedule: firings, and the positions of a finishing job, wait until the end of the transaction.
-- $1 organization, $2 schedule
SELECT id
FROM exportd.schedule
WHERE organization = $1 AND id = $2 AND deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: code_is_taken
-- $1 organization, $2 code, $3 by another schedule than this (null: by any)
SELECT EXISTS (
    SELECT FROM exportd.schedule
    WHERE organization = $1 AND code = $2 AND deleted_at IS NULL AND id IS DISTINCT FROM $3::uuid
);
