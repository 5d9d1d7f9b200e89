-- Uploads in progress, as the jobs that began them wrote them down.

-- name: record
-- $1 job, $2 destination, $3 key, $4 the store's id
INSERT INTO exportd.upload (job_id, destination, key, upload_id)
VALUES ($1, $2, $3, $4);

-- name: of_job
-- The oldest first.
-- $1 job, $2 destination
SELECT key, upload_id, started_at
FROM exportd.upload
WHERE job_id = $1 AND destination = $2
ORDER BY id;

-- name: of_finished_jobs
SELECT job.organization, upload.destination, upload.job_id, upload.key, upload.upload_id, upload.started_at
FROM exportd.upload
JOIN exportd.job ON job.id = upload.job_id
WHERE job.state IN ('SUCCEEDED', 'FAILED')
ORDER BY upload.id;

-- name: forget
-- $1 job, $2 destination, $3 the store's ids
DELETE FROM exportd.upload
WHERE job_id = $1 AND destination = $2 AND upload_id = ANY ($3);
