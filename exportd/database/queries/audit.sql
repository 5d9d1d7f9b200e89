-- Who changed what: exportd.audit, which is only ever added to.

-- name: write
-- $1 actor, $2 organization (null: none), $3 action, $4 object (null: none), $5 details
INSERT INTO exportd.audit (actor, organization, action, object_id, details)
VALUES ($1, $2, $3, $4, $5::text::jsonb);
