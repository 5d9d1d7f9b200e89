-- What the configurations of the daemons declare. Each statement is part of a transaction that makes it so, under that
-- kind's lock.

-- name: all
-- Of every daemon that has a row. $1 kind, $2 this daemon's spool (null: none of them)
SELECT spool_id IS NOT DISTINCT FROM $2::uuid AS own, organization, code, content::text
FROM exportd.declaration
WHERE kind = $1;

-- name: write
-- $1 kind, $2 spool, $3 declarations: a JSON array of organization, code and content
INSERT INTO exportd.declaration (spool_id, kind, organization, code, content)
SELECT $2, $1, organization, code, content
FROM jsonb_to_recordset($3::text::jsonb) AS declared (organization text, code text, content jsonb)
ON CONFLICT (spool_id, kind, organization, code) DO UPDATE SET content = excluded.content;

-- name: withdraw
-- $1 kind, $2 spool, $3 declarations: a JSON array of organization and code
DELETE FROM exportd.declaration
USING jsonb_to_recordset($3::text::jsonb) AS gone (organization text, code text)
WHERE declaration.spool_id = $2 AND declaration.kind = $1
    AND declaration.organization = gone.organization AND declaration.code = gone.code;

-- name: differences
-- What one daemon declares and another does not, or otherwise. $1 the spool of the first
SELECT daemon.spool_id, kind, organization, code, is_here, is_there
FROM exportd.daemon
CROSS JOIN LATERAL (
    SELECT kind, organization, code, here.content IS NOT NULL AS is_here, there.content IS NOT NULL AS is_there
    FROM (SELECT kind, organization, code, content FROM exportd.declaration WHERE spool_id = $1) AS here
    FULL JOIN (
        SELECT kind, organization, code, content FROM exportd.declaration WHERE spool_id = daemon.spool_id
    ) AS there USING (kind, organization, code)
    WHERE here.content IS DISTINCT FROM there.content
) AS difference
WHERE daemon.spool_id <> $1 AND daemon.declared_at IS NOT NULL
ORDER BY 1, 2, 3, 4;
