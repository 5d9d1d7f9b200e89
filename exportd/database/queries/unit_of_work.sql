-- What every unit of work on the daemon's own tables may need: a lock, an audit row, an event.

-- name: lock
-- Until the end of the transaction. A row of our own, which no other role can lock. $1 what is locked
INSERT INTO exportd.lock (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name;

-- name: bound_waits
-- In this transaction no lock is waited for longer than that.
SET LOCAL lock_timeout = '30s';

-- name: write_audit
-- Who did what: exportd.audit, whose rows are never changed, and deleted only when they are old.
-- $1 actor, $2 organization (null: none), $3 action, $4 object (null: none), $5 details
INSERT INTO exportd.audit (actor, organization, action, object_id, details)
VALUES ($1, $2, $3, $4, $5::text::jsonb);

-- The newest audit rows; one statement for each way to ask, so that each has its index whatever plan is kept.

-- name: audit
-- $1 older than this row (null: from the newest), $2 how many
SELECT id, at, actor, organization, action, object_id, details::text
FROM exportd.audit
WHERE id < coalesce($1::bigint, 9223372036854775807)
ORDER BY id DESC
LIMIT $2;

-- name: audit_of_organization
-- $1 older than this row (null: from the newest), $2 how many, $3 organization
SELECT id, at, actor, organization, action, object_id, details::text
FROM exportd.audit
WHERE organization = $3 AND id < coalesce($1::bigint, 9223372036854775807)
ORDER BY id DESC
LIMIT $2;

-- name: audit_of_object
-- $1 older than this row (null: from the newest), $2 how many, $3 object, $4 organization (null: any)
SELECT id, at, actor, organization, action, object_id, details::text
FROM exportd.audit
WHERE object_id = $3 AND id < coalesce($1::bigint, 9223372036854775807) AND ($4::text IS NULL OR organization = $4)
ORDER BY id DESC
LIMIT $2;

-- name: audit_of_action
-- Of the newest $4 rows. $1 older than this row (null: from the newest), $2 how many, $3 how the action begins,
-- $4 how many are looked at, $5 object (null: any), $6 organization (null: any)
SELECT id, at, actor, organization, action, object_id, details::text
FROM (
    SELECT *
    FROM exportd.audit
    WHERE id < coalesce($1::bigint, 9223372036854775807)
    ORDER BY id DESC
    LIMIT $4
) AS examined
WHERE starts_with(action, $3) AND ($5::uuid IS NULL OR object_id = $5) AND ($6::text IS NULL OR organization = $6)
ORDER BY id DESC
LIMIT $2;

-- name: notify
-- $1 the event, a JSON document
SELECT pg_notify('exportd_events', $1);
