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

-- name: notify
-- $1 the event, a JSON document
SELECT pg_notify('exportd_events', $1);
