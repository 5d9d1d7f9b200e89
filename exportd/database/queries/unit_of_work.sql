-- What every unit of work on the daemon's own tables may need: a lock, an audit row, an event.

-- name: lock
-- Until the end of the transaction. $1 what is locked
SELECT pg_advisory_xact_lock(hashtextextended($1, 0));

-- name: write_audit
-- Who did what: exportd.audit, which is only ever added to.
-- $1 actor, $2 organization (null: none), $3 action, $4 object (null: none), $5 details
INSERT INTO exportd.audit (actor, organization, action, object_id, details)
VALUES ($1, $2, $3, $4, $5::text::jsonb);

-- name: notify
-- $1 the event, a JSON document
SELECT pg_notify('exportd_events', $1);
