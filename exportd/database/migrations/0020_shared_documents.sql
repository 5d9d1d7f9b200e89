-- What thousands of jobs have in common is stored once: the fields that an entity had when it was read, and its guards.

-- A position names its guards by their digest, and so does what a job has read (exportd.job.extraction, `fields` and
-- `guards` of its entities): a JSON text instead of the document. Rows of earlier versions hold the document itself. There
-- is no foreign key, for thousands of transactions would lock the same row. Instead each transaction that writes a digest
-- sees to it that its row was used today. So what was used last before the oldest job and the oldest position is named by
-- none of them.
CREATE TABLE exportd.shared_document (
    -- the first half of the SHA-256 of the document's text, in hex digits
    digest    text PRIMARY KEY,
    document  jsonb NOT NULL,
    -- the last day on which a transaction wrote the digest
    used_on   date NOT NULL DEFAULT current_date
);
COMMENT ON COLUMN exportd.position.guards IS
    'the digest of a row of exportd.shared_document; in rows of earlier versions the document itself';
