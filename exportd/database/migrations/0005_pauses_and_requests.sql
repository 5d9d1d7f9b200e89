-- What people ask of the daemons: to wait, to stop a job, to read an entity anew. Here, so that all daemons of the
-- database agree and a restart forgets nothing.

-- While it has its row, no daemon takes a job.
CREATE TABLE exportd.pause (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    paused_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_by     text NOT NULL
);

-- A paused schedule does not fire; what was due meanwhile becomes one run when it goes on.
ALTER TABLE exportd.schedule
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN paused_by text;

-- Jobs that deliver to a paused destination wait.
ALTER TABLE exportd.destination
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN paused_by text;

-- Set while a job runs, for its holder to find; nobody takes such a job any more.
ALTER TABLE exportd.job
    ADD COLUMN cancel_requested_at timestamptz;

-- Entities that a schedule has to export completely once more. Gone when a full run has succeeded that began later.
CREATE TABLE exportd.refresh_request (
    schedule_id   uuid NOT NULL REFERENCES exportd.schedule (id) ON DELETE CASCADE,
    entity        text NOT NULL,
    requested_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    requested_by  text NOT NULL,
    PRIMARY KEY (schedule_id, entity)
);

-- How the destinations are: the last thing each received, and the last job that failed because of one.
CREATE INDEX delivery_of_destination ON exportd.delivery (destination, published_at DESC);
CREATE INDEX job_failed_at_destination ON exportd.job (organization, finished_at DESC)
    WHERE state = 'FAILED' AND reason IN ('DESTINATION_UNAVAILABLE', 'DESTINATION_REFUSED', 'DESTINATION_MISSING');
