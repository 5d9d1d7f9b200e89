-- What operators do with destinations of any organization and origin.

-- name: hold
-- Lock a destination of any origin.
-- $1 destination, $2 organization (null: any)
SELECT organization, code
FROM exportd.destination
WHERE id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR organization = $2)
FOR UPDATE;

-- name: pause
-- $1 destination, $2 actor
UPDATE exportd.destination
SET paused_at = clock_timestamp(), paused_by = $2
WHERE id = $1 AND paused_at IS NULL;

-- name: pause_of
-- $1 destination, $2 organization (null: any)
SELECT paused_at, paused_by
FROM exportd.destination
WHERE id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR organization = $2);

-- name: pauses
SELECT organization, code, paused_at, paused_by
FROM exportd.destination
WHERE deleted_at IS NULL AND paused_at IS NOT NULL;

-- name: resume
-- $1 destination
UPDATE exportd.destination
SET paused_at = NULL, paused_by = NULL
WHERE id = $1;

-- name: health
-- Destinations with the last thing that each received, and the last job that failed because of a destination and delivers
-- there, if that is later. At most so many: first those that are paused, then in the order of their codes.
-- $1 how many
SELECT destination.id, destination.organization, destination.code, destination.paused_at, destination.paused_by,
       received.published_at AS last_success_at, failed.finished_at AS last_failure_at,
       failed.reason AS last_failure_reason, failed.message AS last_failure_message
FROM (
    -- chosen first: what follows is looked for once for each
    SELECT *
    FROM exportd.destination
    WHERE deleted_at IS NULL
    ORDER BY paused_at IS NULL, organization, code
    LIMIT $1
) AS destination
LEFT JOIN LATERAL (
    -- The last of each schedule, and of the exports without one. By the destination alone it would be looked for among
    -- what all organizations with a destination of this code have received.
    SELECT max(newest.published_at) AS published_at
    FROM (
        SELECT (SELECT delivery.published_at
                FROM exportd.delivery
                WHERE delivery.schedule_id = schedule.id AND delivery.destination = destination.code
                ORDER BY delivery.published_at DESC
                LIMIT 1) AS published_at
        FROM (
            -- by the index of each kind
            SELECT id FROM exportd.schedule WHERE organization = destination.organization AND deleted_at IS NULL
            UNION ALL
            SELECT id FROM exportd.schedule WHERE organization = destination.organization AND deleted_at IS NOT NULL
        ) AS schedule
        UNION ALL
        (SELECT delivery.published_at
         FROM exportd.delivery
         JOIN exportd.job ON job.id = delivery.job_id AND job.organization = destination.organization
         WHERE delivery.schedule_id IS NULL AND delivery.destination = destination.code
         ORDER BY delivery.published_at DESC
         LIMIT 1)
    ) AS newest
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
ORDER BY destination.paused_at IS NULL, destination.organization, destination.code;

-- name: organizations
-- Those that have a destination or a schedule.
SELECT organization FROM exportd.destination WHERE deleted_at IS NULL
UNION
SELECT organization FROM exportd.schedule WHERE deleted_at IS NULL
ORDER BY 1;
