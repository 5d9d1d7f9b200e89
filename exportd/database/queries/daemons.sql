-- The daemons of this database. Times are the server's: hosts' clocks differ.

-- name: register
-- A daemon begins. $1 spool, $2 host, $3 process, $4 configuration file, $5 version
INSERT INTO exportd.daemon (spool_id, host, pid, configuration, version)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (spool_id) DO UPDATE
SET host = excluded.host,
    pid = excluded.pid,
    configuration = excluded.configuration,
    version = excluded.version,
    started_at = excluded.started_at,
    seen_at = excluded.seen_at,
    stopped_at = NULL;

-- name: announce
-- It has declared what its configuration says. $1 spool, $2 settings, $3 entities
UPDATE exportd.daemon
SET declared_at = clock_timestamp(), settings = $2::text::jsonb, entities = $3::text::jsonb
WHERE spool_id = $1;

-- name: beat
-- It is there. No row: it has been forgotten. $1 spool
UPDATE exportd.daemon
SET seen_at = clock_timestamp()
WHERE spool_id = $1
RETURNING spool_id;

-- name: stop
-- $1 spool
UPDATE exportd.daemon
SET seen_at = clock_timestamp(), stopped_at = clock_timestamp()
WHERE spool_id = $1;

-- name: forget_gone
-- Daemons that will not come back: those not seen for long, and those whose place this one has taken, with another spool
-- on the same host. What they declared goes with them.
-- $1 this daemon's spool, $2 after how many seconds one does not run any more, $3 after how many it does not count,
-- $4 the setting of those that do not come back with their spool, $5 after how many seconds these do not count
DELETE FROM exportd.daemon
USING exportd.daemon AS own
WHERE own.spool_id = $1 AND daemon.spool_id <> $1
    AND (daemon.seen_at < clock_timestamp() - make_interval(
             secs => CASE WHEN daemon.settings ? $4::text THEN $5::float8 ELSE $3::float8 END)
         OR daemon.host = own.host AND daemon.configuration = own.configuration
             AND (daemon.stopped_at IS NOT NULL OR daemon.seen_at < clock_timestamp() - make_interval(secs => $2::float8)))
RETURNING daemon.spool_id;

-- name: hold
-- $1 spool, $2 after how many seconds one does not run any more
SELECT host, stopped_at IS NULL AND seen_at >= clock_timestamp() - make_interval(secs => $2::float8) AS running
FROM exportd.daemon
WHERE spool_id = $1
FOR UPDATE;

-- name: forget
-- What it declared goes with it. $1 spool
DELETE FROM exportd.daemon
WHERE spool_id = $1;

-- name: all
-- $1 after how many seconds one does not run any more
SELECT spool_id, host, pid, version, started_at, seen_at, declared_at, settings::text, entities::text,
       stopped_at IS NULL AND seen_at >= clock_timestamp() - make_interval(secs => $1::float8) AS running
FROM exportd.daemon
ORDER BY host, started_at, spool_id;
