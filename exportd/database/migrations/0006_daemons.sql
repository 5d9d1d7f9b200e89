-- The daemons of this database, and what the configuration of each declares: none takes away what another declares, and
-- each says where they disagree.

CREATE TABLE exportd.daemon (
    -- the id of its spool: the same after a restart, and never another daemon's
    spool_id      uuid PRIMARY KEY,
    host          text NOT NULL,
    pid           integer NOT NULL,
    -- the path of the file there: whoever starts with the same one takes the place of a daemon that is gone
    configuration text NOT NULL,
    version       text NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- it has left by itself; a row stays, because most come back
    stopped_at    timestamptz,
    -- when it last declared something; null: not yet
    declared_at   timestamptz,
    -- the settings on which all have to agree, by key; hold no secret
    settings      jsonb NOT NULL DEFAULT '{}',
    -- a fingerprint of each entity of its catalog
    entities      jsonb NOT NULL DEFAULT '{}'
);

-- The destinations and schedules of each daemon's configuration. Those that are in effect are in their own tables.
CREATE TABLE exportd.declaration (
    spool_id      uuid NOT NULL REFERENCES exportd.daemon (spool_id) ON DELETE CASCADE,
    kind          text NOT NULL CHECK (kind IN ('destination', 'schedule')),
    organization  text NOT NULL,
    code          text NOT NULL,
    content       jsonb NOT NULL,
    PRIMARY KEY (spool_id, kind, organization, code)
);
