-- The daemon's own tables. The change logs and trigger functions of captured entities are not here: they are made
-- by `exportd capture install`, one set per entity.

CREATE TYPE exportd.job_state AS ENUM ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED');
CREATE TYPE exportd.job_phase AS ENUM ('EXTRACTING', 'SEALED', 'PUBLISHING');

CREATE TABLE exportd.schedule (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization  text NOT NULL,
    code          text NOT NULL,
    name          text NOT NULL,
    entities      text[] NOT NULL,
    format        text NOT NULL,
    destinations  text[] NOT NULL,
    -- {"unit": "DAY", "period": 1, "offset": 2} or {"cron": "0 2 * * *"}
    rule          jsonb NOT NULL,
    version       integer NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_due_at   timestamptz,
    next_due_at   timestamptz NOT NULL,
    -- kept for its jobs' sake; a deleted schedule never fires and holds no change log back
    deleted_at    timestamptz
);
CREATE UNIQUE INDEX schedule_code ON exportd.schedule (organization, code) WHERE deleted_at IS NULL;
CREATE INDEX schedule_due ON exportd.schedule (next_due_at) WHERE deleted_at IS NULL;

CREATE TABLE exportd.job (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization  text NOT NULL,
    schedule_id   uuid REFERENCES exportd.schedule (id),
    schedule_code text,
    due_at        timestamptz NOT NULL,
    entities      text[] NOT NULL,
    format        text NOT NULL,
    destinations  text[] NOT NULL,
    state         exportd.job_state NOT NULL DEFAULT 'PENDING',
    phase         exportd.job_phase NOT NULL DEFAULT 'EXTRACTING',
    -- attempts so far; a job put back by a leaving daemon does not count one
    attempt       integer NOT NULL DEFAULT 0,
    not_before    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- the lease: who works on it and until when; every later write must carry the fence
    lease_holder  text,
    lease_until   timestamptz,
    -- the holder's spool: whoever has locked that spool since knows that the holder is dead
    lease_spool_id uuid,
    fence         bigint NOT NULL DEFAULT 0,
    -- the spool that holds a sealed job's parts
    spool_id      uuid,
    -- change-log rows from here on must not be pruned while the job runs
    log_hold      xid8,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at    timestamptz,
    sealed_at     timestamptz,
    finished_at   timestamptz,
    -- when the spool dropped its files
    expired_at    timestamptz,
    -- objects may be visible at destinations that have no delivery; until they are removed, or found to be complete
    objects_visible boolean NOT NULL DEFAULT false,
    reason        text,
    message       text,
    progress      jsonb NOT NULL DEFAULT '{}',
    -- set by the seal: what was read (mode, window, rows per entity); becomes the manifest and the positions
    extraction    jsonb
);
CREATE UNIQUE INDEX job_firing ON exportd.job (schedule_id, due_at);
-- Missed firings coalesce: a schedule has at most one job that is not finished.
CREATE UNIQUE INDEX job_unfinished ON exportd.job (schedule_id) WHERE state IN ('PENDING', 'RUNNING');
CREATE INDEX job_claimable ON exportd.job (not_before) WHERE state IN ('PENDING', 'RUNNING');
CREATE INDEX job_newest ON exportd.job (created_at DESC);
-- What a spool still holds: the retention asks often, and jobs are kept for ever.
CREATE INDEX job_in_spool ON exportd.job (spool_id, finished_at) WHERE spool_id IS NOT NULL AND expired_at IS NULL;
-- What has to be removed from destinations.
CREATE INDEX job_failed_halfway ON exportd.job (schedule_id) WHERE state = 'FAILED' AND objects_visible;

CREATE TABLE exportd.part (
    job_id        uuid NOT NULL REFERENCES exportd.job (id) ON DELETE CASCADE,
    entity        text NOT NULL,
    number        integer NOT NULL,
    file_name     text NOT NULL,
    rows          bigint NOT NULL,
    content_bytes bigint NOT NULL,
    size_bytes    bigint NOT NULL,
    sha256        text NOT NULL,
    PRIMARY KEY (job_id, entity, number)
);

-- What one destination has received of a job. The newest published one of a schedule is the next one's predecessor.
CREATE TABLE exportd.delivery (
    job_id          uuid NOT NULL REFERENCES exportd.job (id) ON DELETE CASCADE,
    destination     text NOT NULL,
    schedule_id     uuid REFERENCES exportd.schedule (id),
    manifest_sha256 text NOT NULL,
    published_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job_id, destination)
);
CREATE INDEX delivery_newest ON exportd.delivery (schedule_id, destination, published_at DESC);

-- How far a schedule has exported an entity: the snapshot of its last job that succeeded, and what must not have
-- changed since for an incremental run to be exact.
CREATE TABLE exportd.position (
    schedule_id   uuid NOT NULL REFERENCES exportd.schedule (id) ON DELETE CASCADE,
    entity        text NOT NULL,
    job_id        uuid NOT NULL,
    snapshot      pg_snapshot NOT NULL,
    taken_at      timestamptz NOT NULL,
    guards        jsonb NOT NULL,
    destinations  text[] NOT NULL,
    -- the change log no longer reaches back to this position: the next run is full
    expired       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (schedule_id, entity)
);
