-- What has been kept long enough: ended jobs, deleted schedules and destinations, audit rows. Ages are in seconds, by the
-- server's clock. Each statement deletes a bounded number of rows; rows that others have locked wait for the next sweep.

-- name: ended_jobs
-- Jobs that ended longer ago than they are kept, the longest ago first, from a place on.
-- $1 age, $2 ended after (null: from the start), $3 id of the job that ended then, $4 how many
SELECT id, schedule_id, finished_at
FROM exportd.job
WHERE finished_at < (SELECT clock_timestamp() - make_interval(secs => $1::float8))
    AND (finished_at, id) > (
        coalesce($2::timestamptz, '-infinity'), coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))
ORDER BY finished_at, id
LIMIT $4;

-- name: hold_schedules
-- Firings, edits, back-fills and the positions of finishing jobs wait until the end of the transaction. One that is in use
-- is left out. $1 schedules
SELECT id
FROM exportd.schedule
WHERE id = ANY ($1::uuid[])
ORDER BY id
FOR NO KEY UPDATE SKIP LOCKED;

-- name: delete_jobs
-- Delete what nothing needs any more of these jobs, with all that hangs on them. What a schedule still needs:
-- - what its next windows are made of: the jobs that its positions and back-fills name; and from the oldest place where
--   a window may begin (a position, a back-fill that was asked for, a job that holds the log and may be back-filled), all
--   later jobs that have succeeded or delivered something. A back-fill looks among them for runs that were complete, and
--   the manifest for deliveries that come again;
-- - the last job that has succeeded, and those that failed since and delivered something: the next manifest names them;
-- - the newest delivery to each destination, which is the next manifest's predecessor, and the last job that ended.
-- What its destinations and spools still need: uploads to be aborted, objects to be removed, files to be dropped.
-- $1 jobs, $2 schedules that are held, $3 age, $4 how long after its files a job stays
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() - make_interval(secs => $3::float8) AS old,
           clock_timestamp() - make_interval(secs => $4::float8) AS dropped
), gone AS MATERIALIZED (
    -- Destinations that were deleted long ago, and not made again.
    SELECT d.organization, d.code
    FROM exportd.destination AS d
    WHERE d.deleted_at < (SELECT old FROM moment)
        AND NOT EXISTS (
            SELECT FROM exportd.destination AS again
            WHERE again.organization = d.organization AND again.code = d.code
                AND (again.deleted_at IS NULL OR again.deleted_at >= (SELECT old FROM moment)))
), held AS MATERIALIZED (
    SELECT s.id,
           s.deleted_at IS NULL OR unfinished.id IS NOT NULL AS runs,
           ended.id AS last_ended,
           succeeded.id AS last_success,
           coalesce(succeeded.finished_at, '-infinity') AS last_success_at,
           least(
               (SELECT log_hold FROM exportd.job WHERE schedule_id = s.id AND log_hold IS NOT NULL
                ORDER BY 1 LIMIT 1),
               (SELECT pg_snapshot_xmin(snapshot) FROM exportd.position WHERE schedule_id = s.id ORDER BY 1 LIMIT 1),
               (SELECT pg_snapshot_xmin(snapshot) FROM exportd.backfill_request
                WHERE schedule_id = s.id AND snapshot IS NOT NULL
                ORDER BY 1 LIMIT 1)
           ) AS begins
    FROM exportd.schedule AS s
    LEFT JOIN exportd.job AS unfinished ON unfinished.schedule_id = s.id AND unfinished.state IN ('PENDING', 'RUNNING')
    LEFT JOIN LATERAL (
        SELECT id FROM exportd.job
        WHERE schedule_id = s.id AND finished_at IS NOT NULL
        ORDER BY due_at DESC LIMIT 1
    ) AS ended ON true
    LEFT JOIN LATERAL (
        SELECT id, finished_at FROM exportd.job
        WHERE schedule_id = s.id AND finished_at IS NOT NULL AND state = 'SUCCEEDED'
        ORDER BY finished_at DESC LIMIT 1
    ) AS succeeded ON true
    WHERE s.id = ANY ($2::uuid[])
), disposable AS MATERIALIZED (
    SELECT j.id, j.schedule_id, (j.extraction ->> 'taken_at')::timestamptz AS taken_at
    FROM exportd.job AS j
    LEFT JOIN held ON held.id = j.schedule_id
    WHERE j.id = ANY ($1::uuid[])
        AND j.state IN ('SUCCEEDED', 'FAILED') AND j.finished_at < (SELECT old FROM moment)
        AND j.log_hold IS NULL
        AND NOT EXISTS (SELECT FROM exportd.upload WHERE upload.job_id = j.id)
        AND NOT (
            j.spool_id IS NOT NULL AND coalesce(j.expired_at >= (SELECT dropped FROM moment), true)
            AND EXISTS (SELECT FROM exportd.daemon WHERE daemon.spool_id = j.spool_id))
        AND NOT (
            j.objects_visible
            AND EXISTS (
                SELECT FROM unnest(j.destinations) AS lacking (code)
                WHERE NOT EXISTS (
                        SELECT FROM exportd.delivery WHERE delivery.job_id = j.id AND delivery.destination = lacking.code)
                    AND (j.organization, lacking.code) NOT IN (SELECT organization, code FROM gone)))
        AND (j.schedule_id IS NULL OR held.id IS NOT NULL)
        AND NOT (
            coalesce(held.runs, false)
            AND (j.id IN (held.last_ended, held.last_success)
                 OR EXISTS (SELECT FROM exportd.position AS p WHERE p.schedule_id = held.id AND p.job_id = j.id)
                 OR EXISTS (SELECT FROM exportd.backfill_request AS r WHERE r.schedule_id = held.id AND r.job_id = j.id)
                 OR EXISTS (SELECT FROM exportd.delivery WHERE delivery.job_id = j.id)
                     AND j.state = 'FAILED' AND j.finished_at > held.last_success_at
                 OR coalesce(pg_snapshot_xmin((j.extraction ->> 'snapshot')::pg_snapshot) >= held.begins, false)
                     AND (j.state = 'SUCCEEDED' OR EXISTS (SELECT FROM exportd.delivery WHERE delivery.job_id = j.id))
                 OR EXISTS (
                     SELECT FROM exportd.delivery AS d
                     WHERE d.job_id = j.id
                         AND (j.organization, d.destination) NOT IN (SELECT organization, code FROM gone)
                         AND NOT EXISTS (
                             SELECT FROM exportd.delivery AS newer
                             JOIN exportd.job AS of_job ON of_job.id = newer.job_id
                             WHERE newer.schedule_id = d.schedule_id AND newer.destination = d.destination
                                 AND newer.published_at > d.published_at
                                 AND of_job.state IN ('SUCCEEDED', 'FAILED')))))
    FOR UPDATE OF j SKIP LOCKED
), forgotten AS (
    UPDATE exportd.schedule
    SET forgotten_until = greatest(schedule.forgotten_until, latest.taken_at)
    FROM (SELECT schedule_id, max(taken_at) AS taken_at FROM disposable GROUP BY schedule_id) AS latest
    WHERE schedule.id = latest.schedule_id AND latest.taken_at IS NOT NULL
)
DELETE FROM exportd.job
USING disposable
WHERE job.id = disposable.id
RETURNING job.id;

-- name: deleted_schedules
-- Those that were deleted long ago and do not run, among the ones of which a spool has a note.
-- $1 age, $2 the spool as a place of publications, $3 schedules of which it has a file
SELECT s.id
FROM exportd.schedule AS s
WHERE s.deleted_at < (SELECT clock_timestamp() - make_interval(secs => $1::float8))
    AND (s.id = ANY ($3::uuid[])
         OR EXISTS (SELECT FROM exportd.publication AS p WHERE p.schedule_id = s.id AND p.place = $2))
    AND NOT EXISTS (
        SELECT FROM exportd.job WHERE job.schedule_id = s.id AND job.state IN ('PENDING', 'RUNNING'));

-- name: forget_notes
-- $1 the spool as a place of publications, $2 schedules
DELETE FROM exportd.publication
WHERE place = $1 AND schedule_id = ANY ($2::uuid[])
RETURNING schedule_id;

-- name: delete_schedules
-- Those that were deleted long ago and have no jobs. One of which the spool of a daemon has a note waits for that daemon.
-- $1 age, $2 how many
DELETE FROM exportd.schedule
WHERE id = ANY (ARRAY(
    SELECT s.id
    FROM exportd.schedule AS s
    WHERE s.deleted_at < (SELECT clock_timestamp() - make_interval(secs => $1::float8))
        AND NOT EXISTS (SELECT FROM exportd.job WHERE job.schedule_id = s.id)
        AND NOT EXISTS (
            SELECT FROM exportd.publication AS p
            JOIN exportd.daemon ON p.place = 'spool ' || daemon.spool_id
            WHERE p.schedule_id = s.id)
    LIMIT $2
    FOR UPDATE SKIP LOCKED))
RETURNING id;

-- name: delete_destinations
-- Those that were deleted long ago and to which no job of that time delivers.
-- $1 age, $2 how many
DELETE FROM exportd.destination
WHERE id = ANY (ARRAY(
    SELECT d.id
    FROM exportd.destination AS d
    WHERE d.deleted_at < (SELECT clock_timestamp() - make_interval(secs => $1::float8))
        AND NOT EXISTS (
            SELECT FROM exportd.job
            WHERE job.organization = d.organization AND job.created_at <= d.deleted_at
                AND d.code = ANY (job.destinations))
    LIMIT $2
    FOR UPDATE SKIP LOCKED))
RETURNING id;

-- name: delete_organizations
-- The rows by which quotas are counted, of organizations that have nothing any more. $1 how many
DELETE FROM exportd.organization
WHERE organization = ANY (ARRAY(
    SELECT o.organization
    FROM exportd.organization AS o
    WHERE NOT EXISTS (SELECT FROM exportd.schedule AS s WHERE s.organization = o.organization AND s.deleted_at IS NULL)
        AND NOT EXISTS (
            SELECT FROM exportd.destination AS d WHERE d.organization = o.organization AND d.deleted_at IS NULL)
        AND NOT EXISTS (SELECT FROM exportd.job WHERE job.organization = o.organization)
        AND NOT EXISTS (SELECT FROM exportd.api_client AS c WHERE c.organization = o.organization)
    LIMIT $1
    FOR UPDATE SKIP LOCKED))
RETURNING organization;

-- name: delete_turns
-- The turns of organizations that have neither jobs nor schedules any more. $1 how many
DELETE FROM exportd.turn
WHERE organization = ANY (ARRAY(
    SELECT t.organization
    FROM exportd.turn AS t
    WHERE NOT EXISTS (SELECT FROM exportd.schedule AS s WHERE s.organization = t.organization AND s.deleted_at IS NULL)
        AND NOT EXISTS (SELECT FROM exportd.job WHERE job.organization = t.organization)
        -- counted anew should a job have been queued in this moment
        AND t.unfinished <= 0
    LIMIT $1
    FOR UPDATE SKIP LOCKED))
RETURNING organization;

-- name: delete_audit
-- $1 age, $2 how many
DELETE FROM exportd.audit
WHERE id = ANY (ARRAY(
    SELECT id
    FROM exportd.audit
    WHERE at < (SELECT clock_timestamp() - make_interval(secs => $1::float8))
    ORDER BY at
    LIMIT $2
    FOR UPDATE SKIP LOCKED))
RETURNING id;

-- name: delete_documents
-- Shared documents that no job and no position names any more. Each that names one was written on a day on which it was
-- used, so those used last before the oldest job and the oldest position are named by none. Two days are spare, also for a
-- transaction that has found one used today and is not over. One that begins to name it meanwhile marks it as used, or
-- waits for this one and writes it again. $1 how many
DELETE FROM exportd.shared_document
WHERE digest = ANY (ARRAY(
    SELECT digest
    FROM exportd.shared_document
    WHERE used_on < current_date - 2
        -- looked for only if there is such a row
        AND used_on < (SELECT coalesce(min(created_at), 'infinity') FROM exportd.job)::date - 2
        AND used_on < (SELECT coalesce(min(taken_at), 'infinity') FROM exportd.position)::date - 2
    LIMIT $1
    FOR UPDATE))
RETURNING digest;
