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
