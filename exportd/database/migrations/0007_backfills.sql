-- Back-fills: a schedule exports once more what has changed since a past job, because somebody lost it.

-- Where a schedule's next run begins, entity by entity, instead of at its position. Beside the position, not in it: the
-- success of a job that ran meanwhile moves the position and must not swallow what was asked. Gone when a run has
-- succeeded that began later and held everything since. It holds the change log back by itself, also while its entity
-- has no position, so that a position that comes back finds what it needs.
CREATE TABLE exportd.backfill_request (
    schedule_id   uuid NOT NULL REFERENCES exportd.schedule (id) ON DELETE CASCADE,
    entity        text NOT NULL,
    -- the past job: its changes, and all later ones, come again
    job_id        uuid NOT NULL,
    -- where that job's window began, as it stands in a position
    snapshot      pg_snapshot,
    taken_at      timestamptz,
    guards        jsonb,
    -- why there is no way back to that: the run is full
    full_reason   text,
    requested_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    requested_by  text NOT NULL,
    PRIMARY KEY (schedule_id, entity),
    CHECK (num_nulls(snapshot, taken_at, guards) = CASE WHEN full_reason IS NULL THEN 0 ELSE 3 END)
);

-- A job keeps its hold on the change log for a while after its success. While it does, one can go back to where its
-- windows began; whoever wants to locks the job's row, and so does the pruner when it lets go.
COMMENT ON COLUMN exportd.job.log_hold IS
    'change-log rows from here on must not be pruned: the job runs, or has succeeded not long ago and may be back-filled';
CREATE INDEX job_holding ON exportd.job (finished_at) WHERE log_hold IS NOT NULL;
