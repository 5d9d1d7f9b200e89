-- Uploads in progress. A job that goes on from its seal finds its own again, and a store that cannot list uploads has
-- those of the dead aborted by what stands here.

CREATE TABLE exportd.upload (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id        uuid NOT NULL REFERENCES exportd.job (id) ON DELETE CASCADE,
    destination   text NOT NULL,
    key           text NOT NULL,
    -- the store's word for it; Google's lets whoever has it write this one object for a week
    upload_id     text NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX upload_of_job ON exportd.upload (job_id, destination);
