-- What was published last of a schedule, by place, and whether a place remembers more than the database does.

-- name: unknown
-- The places whose memory is not part of this database's history. A place that has been silent for longer than rows are
-- kept here is compared by time only. What it remembers from before the retention has deleted jobs may be one of those.
-- $1 schedule, then one array a column: $2 place, $3 job, $4 token, $5 time of its snapshot as text
SELECT held.place
FROM unnest($2::text[], $3::uuid[], $4::text[], $5::text[]) AS held (place, job_id, token, taken_at)
WHERE NOT EXISTS (
        SELECT FROM exportd.publication AS known
        WHERE known.schedule_id = $1 AND held.token IN (known.token, known.found)
    )
    AND NOT EXISTS (
        SELECT FROM exportd.job
        WHERE job.id = held.job_id AND job.extraction ->> 'taken_at' = held.taken_at
    )
    AND held.taken_at::timestamptz > coalesce((SELECT forgotten_until FROM exportd.schedule WHERE id = $1), '-infinity')
    AND (
        held.taken_at::timestamptz > clock_timestamp() - interval '90 days'
        OR held.taken_at::timestamptz > (SELECT max(taken_at) FROM exportd.position WHERE schedule_id = $1)
    )

-- name: record
-- Before places are told of seals; the jobs whose lease is held. One array a column: $1 job, $2 fence, $3 token, $4 place,
-- $5 what it held (null: it could not be read)
WITH told AS MATERIALIZED (
    SELECT *
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[]) AS told (job_id, fence, token, place, found)
), held AS MATERIALIZED (
    SELECT job.id, job.schedule_id
    FROM exportd.job
    JOIN (SELECT DISTINCT job_id, fence FROM told) AS lease ON lease.job_id = job.id AND lease.fence = job.fence
    WHERE job.state = 'RUNNING'
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
), forgotten AS (
    DELETE FROM exportd.publication AS old
    USING held
    WHERE old.schedule_id = held.schedule_id
        AND old.place NOT IN (SELECT told.place FROM told WHERE told.job_id = held.id)
        AND old.recorded_at < clock_timestamp() - interval '100 days'
), recorded AS (
    INSERT INTO exportd.publication AS known (schedule_id, place, token, found)
    SELECT held.schedule_id, told.place, told.token, told.found
    FROM held
    JOIN told ON told.job_id = held.id
    ORDER BY held.schedule_id, told.place
    ON CONFLICT (schedule_id, place) DO UPDATE
    SET token = excluded.token,
        found = coalesce(excluded.found, nullif(known.token, excluded.token), known.found),
        recorded_at = clock_timestamp()
)
SELECT id FROM held

-- name: note_put_back
-- $1 schedule
UPDATE exportd.position
SET put_back_at = clock_timestamp()
WHERE schedule_id = $1 AND (put_back_at IS NULL OR put_back_at <= taken_at)

-- name: is_older
-- Whether a job was created before a time. $1 job, $2 time
SELECT created_at <= $2::timestamptz FROM exportd.job WHERE id = $1
