-- The SHA-256 of the manifest that lies in the spool, for downloads: the next one of the schedule names it.
ALTER TABLE exportd.job ADD COLUMN spool_manifest_sha256 text;
