-- Programs that use the API, and the key that signs what the API hands out.

-- name: insert_client
-- $1 organization, $2 name, $3 role, $4 SHA-256 of the secret, $5 actor
INSERT INTO exportd.api_client (organization, name, role, secret_sha256, created_by)
VALUES ($1, $2, $3, $4, $5)
RETURNING id, organization, name, role, secret_sha256, active, created_at, created_by;

-- name: client
-- $1 client
SELECT id, organization, name, role, secret_sha256, active, created_at, created_by
FROM exportd.api_client
WHERE id = $1;

-- name: clients
SELECT id, organization, name, role, secret_sha256, active, created_at, created_by
FROM exportd.api_client
ORDER BY created_at, id;

-- name: deactivate_client
-- $1 client
UPDATE exportd.api_client
SET active = false
WHERE id = $1
RETURNING id, organization, name, role, secret_sha256, active, created_at, created_by;
