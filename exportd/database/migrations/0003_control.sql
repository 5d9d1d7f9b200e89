-- What is made through the API stands beside what the configuration declares; and who did what.

CREATE TYPE exportd.origin AS ENUM ('CONFIGURATION', 'API');

ALTER TABLE exportd.schedule
    -- a schedule of the configuration is edited there and nowhere else
    ADD COLUMN origin exportd.origin NOT NULL DEFAULT 'CONFIGURATION',
    ADD COLUMN created_by text NOT NULL DEFAULT 'configuration',
    ADD COLUMN modified_by text NOT NULL DEFAULT 'configuration';
CREATE INDEX schedule_of_organization ON exportd.schedule (organization, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;

CREATE INDEX job_of_organization ON exportd.job (organization, created_at DESC, id DESC);

-- Destinations of the configuration have a row too: the API knows destinations by id.
CREATE TABLE exportd.destination (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization  text NOT NULL,
    -- what schedules, jobs and deliveries call it; never edited
    code          text NOT NULL,
    name          text NOT NULL,
    origin        exportd.origin NOT NULL,
    -- as in the configuration: {"type": "S3", "bucket": ...}; holds no secret
    settings      jsonb NOT NULL,
    version       integer NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by    text NOT NULL,
    modified_by   text NOT NULL,
    deleted_at    timestamptz
);
CREATE UNIQUE INDEX destination_code ON exportd.destination (organization, code) WHERE deleted_at IS NULL;
CREATE INDEX destination_of_organization ON exportd.destination (organization, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;

-- Programs that use the API over TCP; each belongs to one organization. Secrets are random and long, so that a plain
-- hash of them tells nothing.
CREATE TABLE exportd.api_client (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization  text NOT NULL,
    name          text NOT NULL,
    role          text NOT NULL CHECK (role IN ('reader', 'operator')),
    secret_sha256 bytea NOT NULL,
    active        boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by    text NOT NULL
);

-- Signs access tokens, page tokens and download links, for all daemons of this database alike.
CREATE TABLE exportd.signing_key (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key           bytea NOT NULL CHECK (octet_length(key) >= 32)
);

-- Who changed what, for ever.
CREATE TABLE exportd.audit (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor         text NOT NULL,
    organization  text,
    action        text NOT NULL,
    object_id     uuid,
    -- the object as it was written; holds no secret
    details       jsonb NOT NULL
);
CREATE INDEX audit_of_object ON exportd.audit (object_id, at);

CREATE FUNCTION exportd.refuse_to_rewrite_history() RETURNS trigger
LANGUAGE plpgsql
AS 'BEGIN RAISE EXCEPTION ''exportd.audit is only ever added to''; END';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON exportd.audit
FOR EACH STATEMENT EXECUTE FUNCTION exportd.refuse_to_rewrite_history();
