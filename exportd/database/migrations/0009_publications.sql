-- What was published last, by place: the spools and destinations remember it too, outside the database. One that
-- remembers what stands neither here nor among the jobs knows a future of this database that was undone.

CREATE TABLE exportd.publication (
    schedule_id   uuid NOT NULL REFERENCES exportd.schedule (id) ON DELETE CASCADE,
    -- a spool, or a destination at a location
    place         text NOT NULL,
    token         text NOT NULL,
    -- what the place held when this was written: it still holds that if the daemon died before it wrote there
    found         text,
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (schedule_id, place)
);

-- The database was found to be older than what was published: until the position moves, the entity's runs are full.
ALTER TABLE exportd.position ADD COLUMN put_back_at timestamptz;
