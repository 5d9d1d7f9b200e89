-- Jobs, their leases and what they leave behind: exportd.job, part, delivery and position.
--
-- Time is the server's (clock_timestamp), never a host's: all daemons agree on when a lease ends. Everything a holder
-- writes carries its fence; no row updated means that the lease is no longer its own. JSON passes as text.

-- name: claim
-- Take a job that is due, or whose holder let the lease expire. The organization with the fewest running jobs comes first.
-- A job that waits for the database does not count, for it takes no slot. Of several organizations, the one whose last
-- turn is longest ago comes first; of its jobs, the one that has been due longest. So an organization without a running
-- job waits for at most one job of each other organization, however long their backlogs are. Two daemons that claim in
-- the same moment may both take a job of one organization: they do not see each other's turn.
-- The walk goes over the organizations in this order, by an index and twenty at a time, and ends with the first job that
-- may be taken: what else waits costs nothing.
-- Nothing is taken during a pause, nor a job that delivers to a paused destination, nor one that was cancelled; nor one
-- that delivers to a destination of a configuration that is not the holder's: a row does not say where to write. A sealed
-- job's parts are in one spool: with another spool it is taken only after a grace, and starts over (what was
-- delivered is forgotten too, for the new parts differ).
-- $1 holder, $2 lease in seconds, $3 the holder's spool, $4 limit of attempts, $5 grace in seconds
-- $6 organizations and $7 codes of the destinations that the holder's configuration declares, as arrays in text, which
-- a daemon with thousands of them sends faster; null: all there are
-- $8 entities that the job must not read
-- $9 only a job that is expected to be short: the last run of its schedule succeeded within $10 seconds with at most $11
-- bytes, and no more was asked for than what has changed since
WITH RECURSIVE moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), busy AS MATERIALIZED (
    SELECT organization, count(*) AS jobs
    FROM exportd.job
    WHERE state = 'RUNNING' AND lease_until >= (SELECT now FROM moment) AND NOT progress ? 'stalls'
    GROUP BY organization
), walk AS (
    SELECT 0::bigint AS jobs, -9223372036854775808 AS number, '' AS organization,
           NULL::uuid AS id, NULL::text AS owner, false AS starts_over
    WHERE NOT EXISTS (SELECT FROM exportd.pause)
        -- no walk over jobs that all wait for a later attempt
        AND (
            SELECT true
            FROM exportd.job
            WHERE state IN ('PENDING', 'RUNNING') AND not_before <= (SELECT now FROM moment)
                AND (state = 'PENDING' OR lease_until < (SELECT now FROM moment))
            ORDER BY not_before
            LIMIT 1)
    UNION ALL
    SELECT (following.jobs)[1], (following.numbers)[1], (following.organizations)[1],
           first_job.id, first_job.organization, first_job.starts_over
    FROM walk
    CROSS JOIN LATERAL (
        -- the last one first: from there the walk goes on
        SELECT array_agg(jobs ORDER BY jobs DESC, number DESC, organization DESC) AS jobs,
               array_agg(number ORDER BY jobs DESC, number DESC, organization DESC) AS numbers,
               array_agg(organization ORDER BY jobs DESC, number DESC, organization DESC) AS organizations,
               array_agg(organization ORDER BY jobs, number, organization) AS in_order
        FROM (
            (SELECT 0::bigint AS jobs, number, organization
             FROM exportd.turn
             WHERE unfinished > 0 AND walk.jobs = 0 AND (number, organization) > (walk.number, walk.organization)
                 AND organization NOT IN (SELECT organization FROM busy)
             ORDER BY number, organization
             LIMIT 20)
            UNION ALL
            (SELECT busy.jobs, number, organization
             FROM busy
             JOIN exportd.turn USING (organization)
             WHERE (busy.jobs, number, organization) > (walk.jobs, walk.number, walk.organization)
             ORDER BY busy.jobs, number, organization
             LIMIT 20)
            ORDER BY jobs, number, organization
            LIMIT 20
        ) AS coming
    ) AS following
    LEFT JOIN LATERAL (
        SELECT job.*
        FROM unnest(following.in_order) AS next (organization)
        CROSS JOIN LATERAL (
            SELECT job.id, job.organization,
                   job.phase = 'EXTRACTING' OR job.spool_id IS DISTINCT FROM $3::uuid AS starts_over
            FROM exportd.job
            WHERE job.organization = next.organization
                AND CASE job.state
                        WHEN 'PENDING' THEN job.not_before <= (SELECT now FROM moment)
                        -- one that used up its attempts is fail_interrupted's
                        WHEN 'RUNNING' THEN job.lease_until < (SELECT now FROM moment) AND job.attempt < $4::integer
                    END
                AND job.state IN ('PENDING', 'RUNNING')
                AND job.cancel_requested_at IS NULL
                AND NOT ((job.phase = 'EXTRACTING' OR job.spool_id IS DISTINCT FROM $3::uuid)
                         AND job.entities && $8::text[])
                AND (NOT $9::boolean OR (
                    NOT EXISTS (SELECT FROM exportd.refresh_request WHERE refresh_request.schedule_id = job.schedule_id)
                    AND NOT EXISTS (SELECT FROM exportd.backfill_request WHERE backfill_request.schedule_id = job.schedule_id)
                    AND (
                        SELECT last_run.state = 'SUCCEEDED'
                            AND last_run.finished_at - last_run.started_at < make_interval(secs => $10::float8)
                            AND (SELECT coalesce(sum(content_bytes), 0) <= $11::bigint
                                 FROM exportd.part WHERE part.job_id = last_run.id)
                        FROM exportd.job AS last_run
                        WHERE last_run.schedule_id = job.schedule_id AND last_run.finished_at IS NOT NULL
                        ORDER BY last_run.finished_at DESC
                        LIMIT 1)))
                AND NOT EXISTS (
                    SELECT FROM exportd.destination
                    WHERE destination.organization = job.organization AND destination.code = ANY (job.destinations)
                        AND destination.deleted_at IS NULL
                        AND (destination.paused_at IS NOT NULL
                             -- IN, which is looked up in a hash table: there may be thousands of both
                             OR (destination.origin = 'CONFIGURATION' AND $6::text IS NOT NULL
                                 AND (destination.organization, destination.code) NOT IN (
                                     SELECT organization, code
                                     FROM unnest($6::text::text[], $7::text::text[]) AS declared (organization, code))))
                )
                AND (job.phase = 'EXTRACTING'
                     OR job.spool_id = $3::uuid
                     OR coalesce(job.lease_until, job.not_before) + make_interval(secs => $5::float8)
                        < (SELECT now FROM moment))
            ORDER BY job.due_at, job.id
            LIMIT 1
            FOR UPDATE OF job SKIP LOCKED
        ) AS job
        LIMIT 1
    ) AS first_job ON true
    WHERE walk.id IS NULL AND following.in_order IS NOT NULL
), candidate AS MATERIALIZED (
    SELECT id, owner AS organization, starts_over FROM walk WHERE id IS NOT NULL
), taken_turn AS (
    INSERT INTO exportd.turn (organization, number)
    SELECT organization, nextval('exportd.turn_number') FROM candidate
    ON CONFLICT (organization) DO UPDATE SET number = excluded.number
), dropped_parts AS (
    DELETE FROM exportd.part USING candidate WHERE part.job_id = candidate.id AND candidate.starts_over
), dropped_deliveries AS (
    DELETE FROM exportd.delivery USING candidate WHERE delivery.job_id = candidate.id AND candidate.starts_over
), claimed AS (
    UPDATE exportd.job
    SET state = 'RUNNING',
        attempt = attempt + 1,
        fence = fence + 1,
        lease_holder = $1::text,
        lease_until = clock_timestamp() + make_interval(secs => $2::float8),
        lease_spool_id = $3::uuid,
        started_at = coalesce(started_at, clock_timestamp()),
        phase = CASE WHEN starts_over THEN 'EXTRACTING' ELSE phase END,
        -- before the job's own snapshot, so never above it: what that snapshot will need next time is still there. And
        -- what its windows need, should a position expire or be dropped before they are read
        log_hold = CASE
            WHEN starts_over THEN least(
                pg_snapshot_xmin(pg_current_snapshot()),
                (SELECT pg_snapshot_xmin(begins.snapshot)
                 FROM (SELECT snapshot FROM exportd.position WHERE schedule_id = job.schedule_id AND NOT expired
                       UNION ALL
                       SELECT snapshot FROM exportd.backfill_request WHERE schedule_id = job.schedule_id) AS begins
                 ORDER BY 1
                 LIMIT 1))
            ELSE log_hold
        END,
        progress = CASE WHEN starts_over THEN '{}' ELSE progress END,
        spool_id = CASE WHEN starts_over THEN NULL ELSE spool_id END,
        sealed_at = CASE WHEN starts_over THEN NULL ELSE sealed_at END,
        extraction = CASE WHEN starts_over THEN NULL ELSE extraction END
    FROM candidate
    WHERE job.id = candidate.id
    RETURNING job.*
)
SELECT
    id, organization, schedule_id, schedule_code, due_at, entities, format, destinations, start_date, phase, attempt,
    fence,
    pg_notify('exportd_events', json_build_object('kind', 'job_started', 'id', id, 'state', state)::text)
FROM claimed;

-- name: claim_together
-- Take other jobs along with one that was just claimed: those that are due, read the same entities, were never held
-- before, and of which, like of that one, a short time to read is expected; or which are, like that one, the first of
-- their schedules. So nothing of them is anywhere yet. The turns are those of `claim`; an organization with several such jobs
-- takes a turn for each.
-- Most often there are enough organizations without a running job: the walk over them, in the order of their turns,
-- ends when it has the first job of enough of them, whatever else waits. Otherwise all that waits is sorted.
-- The planner must not sort where an index has the order (enable_sort): statistics that are an hour old know of no queue,
-- and it would look through all that waits once for each organization.
-- $1 holder, $2 lease in seconds, $3 the holder's spool, $4 the job that was claimed, $5 how many more
-- $6 organizations and $7 codes of the destinations that the holder's configuration declares, as arrays in text, which
-- a daemon with thousands of them sends faster; null: all there are
-- $8 within how many seconds the last run of a schedule must have read, $9 how many bytes at most. How long it delivered
-- does not count: a slow destination would have what is cheap to read together read one by one, which is slower still
WITH RECURSIVE busy AS MATERIALIZED (
    SELECT organization, count(*) AS jobs
    FROM exportd.job
    WHERE state = 'RUNNING' AND lease_until >= clock_timestamp() AND NOT progress ? 'stalls'
    GROUP BY organization
), walk AS (
    SELECT '-9223372036854775808'::bigint AS number, '' AS organization, '{}'::uuid[] AS jobs, 0 AS found
    WHERE NOT EXISTS (SELECT FROM exportd.pause)
    UNION ALL
    SELECT (following.numbers)[1], (following.organizations)[1], first_jobs.ids,
           walk.found + cardinality(first_jobs.ids)
    FROM walk
    CROSS JOIN LATERAL (
        -- the last one first: from there the walk goes on
        SELECT array_agg(number ORDER BY number DESC, organization DESC) AS numbers,
               array_agg(organization ORDER BY number DESC, organization DESC) AS organizations,
               array_agg(organization ORDER BY number, organization) AS in_order
        FROM (
            SELECT number, organization
            FROM exportd.turn
            WHERE unfinished > 0 AND (number, organization) > (walk.number, walk.organization)
                AND organization NOT IN (SELECT organization FROM busy)
            ORDER BY number, organization
            LIMIT 4 * $5::integer
        ) AS coming
    ) AS following
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(first_job.id ORDER BY next.place), '{}') AS ids
        FROM unnest(following.in_order) WITH ORDINALITY AS next (organization, place)
        CROSS JOIN LATERAL (
            SELECT job.id
            FROM exportd.job
            WHERE job.organization = next.organization AND job.state IN ('PENDING', 'RUNNING')
                AND job.state = 'PENDING' AND job.fence = 0 AND job.not_before <= clock_timestamp()
                AND job.cancel_requested_at IS NULL
                AND job.entities = (SELECT first.entities FROM exportd.job AS first WHERE first.id = $4::uuid)
            ORDER BY job.due_at, job.id
            LIMIT 1
        ) AS first_job
    ) AS first_jobs
    WHERE walk.found < 4 * $5::integer AND following.in_order IS NOT NULL
), enough AS MATERIALIZED (
    SELECT coalesce(max(found), 0) >= 4 * $5::integer AS found FROM walk
), due AS MATERIALIZED (
    SELECT job.id, job.organization, job.due_at
    FROM exportd.job
    WHERE job.state = 'PENDING' AND job.fence = 0 AND job.not_before <= clock_timestamp()
        AND job.cancel_requested_at IS NULL
        AND job.entities = (SELECT first.entities FROM exportd.job AS first WHERE first.id = $4::uuid)
        AND NOT (SELECT found FROM enough)
        AND NOT EXISTS (SELECT FROM exportd.pause)
), placed AS (
    SELECT due.id, row_number() OVER (ORDER BY rounds, turn.number NULLS FIRST, organization, due_at, due.id) AS place
    FROM (
        SELECT
            due.*,
            coalesce(busy.jobs, 0) + row_number() OVER (PARTITION BY organization ORDER BY due_at, id) AS rounds
        FROM due LEFT JOIN busy USING (organization)
    ) AS due
    LEFT JOIN exportd.turn USING (organization)
    UNION ALL
    SELECT first_job.id, walk.found - cardinality(walk.jobs) + first_job.place
    FROM enough, walk, unnest(walk.jobs) WITH ORDINALITY AS first_job (id, place)
    WHERE enough.found
), next AS MATERIALIZED (
    SELECT placed.place, looked_up.*
    FROM placed
    -- one by one: all jobs are many more
    CROSS JOIN LATERAL (
        SELECT job.id, job.organization, job.schedule_id, job.destinations
        FROM exportd.job
        WHERE job.id = placed.id
        LIMIT 1
    ) AS looked_up
    WHERE placed.place <= 4 * $5::integer  -- of more it is not looked how long they take
), chosen AS MATERIALIZED (
    SELECT next.id
    FROM next
    JOIN exportd.job AS first ON first.id = $4::uuid
    WHERE NOT EXISTS (
            SELECT FROM unnest(ARRAY[next.schedule_id, first.schedule_id]) AS scheduled (id)
            WHERE EXISTS (SELECT FROM exportd.refresh_request AS asked WHERE asked.schedule_id = scheduled.id)
                OR EXISTS (SELECT FROM exportd.backfill_request AS asked WHERE asked.schedule_id = scheduled.id)
                OR (SELECT last_run.state = 'SUCCEEDED'
                        AND last_run.sealed_at - last_run.started_at < make_interval(secs => $8::float8)
                        AND (SELECT coalesce(sum(content_bytes), 0) <= $9::bigint
                             FROM exportd.part WHERE part.job_id = last_run.id)
                    FROM exportd.job AS last_run
                    WHERE last_run.schedule_id = scheduled.id AND last_run.finished_at IS NOT NULL
                    ORDER BY last_run.finished_at DESC
                    LIMIT 1) IS NOT TRUE
                    -- or of first runs both of them
                    AND EXISTS (SELECT FROM unnest(ARRAY[next.schedule_id, first.schedule_id]) AS either (id)
                                WHERE EXISTS (SELECT FROM exportd.job AS last_run
                                              WHERE last_run.schedule_id = either.id AND last_run.finished_at IS NOT NULL)
                                    OR EXISTS (SELECT FROM exportd.position WHERE position.schedule_id = either.id)))
        AND NOT EXISTS (
            SELECT FROM exportd.destination
            WHERE destination.organization = next.organization AND destination.code = ANY (next.destinations)
                AND destination.deleted_at IS NULL
                AND (destination.paused_at IS NOT NULL
                     OR (destination.origin = 'CONFIGURATION' AND $6::text IS NOT NULL
                         AND (destination.organization, destination.code) NOT IN (
                             SELECT organization, code
                             FROM unnest($6::text::text[], $7::text::text[]) AS declared (organization, code)))))
    ORDER BY next.place
    LIMIT $5::integer
), candidate AS MATERIALIZED (
    SELECT locked.id, locked.organization
    FROM chosen
    CROSS JOIN LATERAL (
        SELECT job.id, job.organization
        FROM exportd.job
        WHERE job.id = chosen.id AND job.state = 'PENDING' AND job.fence = 0 AND job.cancel_requested_at IS NULL
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS locked
), taken_turn AS (
    INSERT INTO exportd.turn (organization, number)
    SELECT organization, nextval('exportd.turn_number') FROM (SELECT DISTINCT organization FROM candidate) AS takes
    ORDER BY organization  -- as the triggers of exportd.job do
    ON CONFLICT (organization) DO UPDATE SET number = excluded.number
), claimed AS (
    UPDATE exportd.job
    SET state = 'RUNNING',
        attempt = attempt + 1,
        fence = fence + 1,
        lease_holder = $1::text,
        lease_until = clock_timestamp() + make_interval(secs => $2::float8),
        lease_spool_id = $3::uuid,
        started_at = clock_timestamp(),
        -- as in `claim`
        log_hold = least(
            pg_snapshot_xmin(pg_current_snapshot()),
            (SELECT pg_snapshot_xmin(position.snapshot)
             FROM exportd.position
             WHERE position.schedule_id = job.schedule_id AND NOT position.expired
             ORDER BY 1
             LIMIT 1))
    FROM candidate
    WHERE job.id = candidate.id
    RETURNING job.*
)
SELECT
    id, organization, schedule_id, schedule_code, due_at, entities, format, destinations, start_date, phase, attempt,
    fence,
    pg_notify('exportd_events', json_build_object('kind', 'job_started', 'id', id, 'state', state)::text)
FROM claimed
ORDER BY due_at, id;

-- name: seconds_to_next_due
-- How long until a job that was put back may be claimed. One that is due already and was not claimed waits for something
-- else than the time: for a slot, or for the daemon that has its spool.
SELECT extract(epoch FROM min(not_before) - clock_timestamp())::float8
FROM exportd.job
-- a subquery, which is evaluated once: the index leads past those that are due already
WHERE state IN ('PENDING', 'RUNNING') AND state = 'PENDING' AND not_before > (SELECT clock_timestamp())

-- name: fail_interrupted
-- End the jobs that used up their attempts and whose holder let the lease expire: whatever kills their daemon would
-- do so again.
-- $1 limit of attempts
WITH failed AS (
    UPDATE exportd.job
    SET state = 'FAILED',
        finished_at = clock_timestamp(),
        reason = 'INTERRUPTED',
        message = format(
            'The daemon %s terminated unexpectedly during attempt %s, the last one allowed: it was killed or cut off'
            ' from the database. Look at its log and at the memory of its host. The schedule''s next run holds the'
            ' same changes.',
            lease_holder, attempt),
        lease_holder = NULL,
        lease_until = NULL,
        lease_spool_id = NULL,
        log_hold = NULL
    WHERE state = 'RUNNING' AND lease_until < clock_timestamp() AND attempt >= $1::integer
    RETURNING id, state, schedule_id
)
SELECT id, pg_notify('exportd_events', json_build_object(
    'kind', 'job_finished', 'id', id, 'state', state, 'schedule', schedule_id)::text)
FROM failed;

-- name: fail_cancelled
-- End the cancelled jobs that no daemon holds (any more).
-- $1 message
WITH failed AS (
    UPDATE exportd.job
    SET state = 'FAILED',
        finished_at = clock_timestamp(),
        reason = 'CANCELLED',
        message = $1::text,
        lease_holder = NULL,
        lease_until = NULL,
        lease_spool_id = NULL,
        log_hold = NULL
    WHERE state IN ('PENDING', 'RUNNING') AND cancel_requested_at IS NOT NULL
        AND (state = 'PENDING' OR lease_until < clock_timestamp())
    RETURNING id, state, schedule_id
)
SELECT id, pg_notify('exportd_events', json_build_object(
    'kind', 'job_finished', 'id', id, 'state', state, 'schedule', schedule_id)::text)
FROM failed;

-- name: end_leases_of_spool
-- End the leases of the holders that used a spool: the daemon that has locked it knows that they are dead.
-- $1 spool
UPDATE exportd.job
SET lease_until = clock_timestamp()
WHERE state = 'RUNNING' AND lease_spool_id = $1 AND lease_until > clock_timestamp()
RETURNING id;

-- name: heartbeat
-- Extend leases, and write the progress that is not null. A job that has just succeeded is told of as well: its holder
-- has ended it while this statement waited.
-- One array a column: $1 job, $2 fence, $3 lease in seconds, $4 progress
WITH held AS MATERIALIZED (
    SELECT job.id, job.state, job.cancel_requested_at, given.lease_s, given.progress
    FROM unnest($1::uuid[], $2::bigint[], $3::float8[], $4::text[]) AS given (id, fence, lease_s, progress)
    JOIN exportd.job USING (id)
    WHERE job.fence = given.fence
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
), extended AS (
    UPDATE exportd.job
    SET lease_until = clock_timestamp() + make_interval(secs => held.lease_s),
        progress = coalesce(held.progress::jsonb, job.progress)
    FROM held
    WHERE job.id = held.id AND held.state = 'RUNNING'
)
SELECT id, state = 'RUNNING' AND cancel_requested_at IS NOT NULL AS cancelled
FROM held
WHERE state IN ('RUNNING', 'SUCCEEDED');

-- name: record_progress
-- Write attempts' last progress, whatever state its end left a job in.
-- One array a column: $1 job, $2 fence, $3 progress (null: as it is, but that the job waits for nothing any more)
WITH held AS MATERIALIZED (
    SELECT job.id, given.progress
    FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS given (id, fence, progress)
    JOIN exportd.job USING (id)
    WHERE job.fence = given.fence
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
)
UPDATE exportd.job
SET progress = coalesce(held.progress::jsonb, job.progress - 'stalls')
FROM held
WHERE job.id = held.id
RETURNING job.id, job.state;

-- name: progress
-- $1 job
SELECT progress::text FROM exportd.job WHERE id = $1;

-- name: seal
-- With the documents that have yet to be shared, or have not been used today: `share_documents` takes them.
-- One array a column: $1 job, $2 fence, $3 spool, $4 extraction. And $5 digests of the documents that these name
WITH held AS MATERIALIZED (
    SELECT job.id, given.spool_id, given.extraction
    FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[]) AS given (id, fence, spool_id, extraction)
    JOIN exportd.job USING (id)
    WHERE job.fence = given.fence AND job.state = 'RUNNING'
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
)
UPDATE exportd.job
SET phase = 'SEALED',
    sealed_at = clock_timestamp(),
    spool_id = held.spool_id,
    extraction = held.extraction::jsonb
FROM held
WHERE job.id = held.id
RETURNING job.id, ARRAY(
    SELECT named.digest
    FROM unnest($5::text[]) AS named (digest)
    WHERE NOT EXISTS (
        SELECT FROM exportd.shared_document AS known
        WHERE known.digest = named.digest AND known.used_on >= current_date)) AS lacking;

-- name: share_documents
-- What was used today is left out before, not by ON CONFLICT: that would lock the row, for each job of the same hour.
-- One array a column: $1 digest, $2 document
INSERT INTO exportd.shared_document (digest, document)
SELECT given.digest, given.document::jsonb
FROM unnest($1::text[], $2::text[]) AS given (digest, document)
ORDER BY given.digest  -- so that no two of these wait for each other
ON CONFLICT (digest) DO UPDATE SET used_on = current_date WHERE shared_document.used_on < current_date;

-- name: shared_documents
-- $1 digests
SELECT digest, document::text FROM exportd.shared_document WHERE digest = ANY ($1::text[]);

-- name: insert_parts
-- One array a column: $1 job, $2 entity, $3 number, $4 file name, $5 rows, $6 bytes inside, $7 bytes, $8 SHA-256
INSERT INTO exportd.part (job_id, entity, number, file_name, rows, content_bytes, size_bytes, sha256)
SELECT *
FROM unnest(
    $1::uuid[], $2::text[], $3::integer[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[]) AS sealed;

-- name: publishing
-- One array a column: $1 job, $2 fence
WITH held AS MATERIALIZED (
    SELECT job.id
    FROM unnest($1::uuid[], $2::bigint[]) AS given (id, fence)
    JOIN exportd.job USING (id)
    WHERE job.fence = given.fence AND job.state = 'RUNNING'
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
)
UPDATE exportd.job
SET phase = 'PUBLISHING', objects_visible = true
FROM held
WHERE job.id = held.id
RETURNING job.id;

-- name: lock_schedule
-- Keep the jobs' schedules from being edited or deleted until the end of the transaction. Before the jobs' rows are
-- touched: a firing locks the schedule first, too.
-- $1 jobs
SELECT schedule.id
FROM exportd.schedule
JOIN exportd.job ON job.schedule_id = schedule.id
WHERE job.id = ANY ($1::uuid[])
ORDER BY schedule.id
FOR SHARE OF schedule;

-- name: succeed
-- The job goes on holding the change log, from where its windows began, until the pruner lets go: for back-fills.
-- One array a column: $1 job, $2 fence, $3 SHA-256 of its manifest in the spool, $4 its last progress (null: as it is)
WITH held AS MATERIALIZED (
    SELECT job.id, given.manifest_sha256, given.progress
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS given (id, fence, manifest_sha256, progress)
    JOIN exportd.job USING (id)
    WHERE job.fence = given.fence AND job.state = 'RUNNING'
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
), succeeded AS (
    UPDATE exportd.job
    SET state = 'SUCCEEDED',
        spool_manifest_sha256 = held.manifest_sha256,
        progress = coalesce(held.progress::jsonb, job.progress),
        finished_at = clock_timestamp(),
        objects_visible = false,
        reason = NULL,
        message = NULL,
        lease_holder = NULL,
        lease_until = NULL,
        lease_spool_id = NULL,
        log_hold = (
            SELECT pg_snapshot_xmin(extracted.previous::pg_snapshot)
            FROM jsonb_to_recordset(extraction -> 'entities') AS extracted (mode text, previous text)
            WHERE extracted.mode = 'incremental'
            ORDER BY 1
            LIMIT 1)
    FROM held
    WHERE job.id = held.id
    RETURNING job.id, state, schedule_id
)
SELECT id, pg_notify('exportd_events', json_build_object(
    'kind', 'job_finished', 'id', id, 'state', state, 'schedule', schedule_id)::text)
FROM succeeded;

-- name: move_positions
-- Let the jobs' schedules go on from here, entity by entity. Nothing happens for an ad hoc job or a schedule deleted
-- since; an entity that an edit has taken out of the schedule starts anew should it ever come back. Answers with the
-- documents that `share_documents` has to take.
-- One array a column: $1 job, $2 array of {entity, snapshot, taken_at, guards, destinations}. And $3 digests of the guards
WITH moved AS (
    INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
    SELECT schedule.id, reached.entity, job.id, reached.snapshot::pg_snapshot, reached.taken_at, reached.guards,
           reached.destinations
    FROM unnest($1::uuid[], $2::text[]) AS given (id, positions)
    JOIN exportd.job USING (id)
    JOIN exportd.schedule ON schedule.id = job.schedule_id AND schedule.deleted_at IS NULL
    CROSS JOIN jsonb_to_recordset(given.positions::jsonb)
        AS reached (entity text, snapshot text, taken_at timestamptz, guards jsonb, destinations text[])
    WHERE reached.entity = ANY (schedule.entities)
    ON CONFLICT (schedule_id, entity) DO UPDATE
    SET job_id = excluded.job_id,
        snapshot = excluded.snapshot,
        taken_at = excluded.taken_at,
        guards = excluded.guards,
        destinations = excluded.destinations,
        expired = false
)
SELECT named.digest
FROM unnest($3::text[]) AS named (digest)
WHERE NOT EXISTS (
    SELECT FROM exportd.shared_document AS known
    WHERE known.digest = named.digest AND known.used_on >= current_date);

-- name: fulfil_refresh_requests
-- Forget that an entity was to be read completely, when it was, and later than that was asked for.
-- $1 jobs
DELETE FROM exportd.refresh_request
USING exportd.job
CROSS JOIN jsonb_to_recordset(job.extraction -> 'entities') AS extracted (entity text, mode text)
WHERE job.id = ANY ($1::uuid[])
    AND refresh_request.schedule_id = job.schedule_id
    AND refresh_request.entity = extracted.entity
    AND extracted.mode = 'full'
    AND refresh_request.requested_at < (job.extraction ->> 'taken_at')::timestamptz;

-- name: fulfil_backfill_requests
-- Forget that a run was to begin at a past position, when one did, and later than that was asked for. A full run will do.
-- $1 jobs
DELETE FROM exportd.backfill_request
USING exportd.job
CROSS JOIN jsonb_to_recordset(job.extraction -> 'entities') AS extracted (entity text, mode text, previous text)
WHERE job.id = ANY ($1::uuid[])
    AND backfill_request.schedule_id = job.schedule_id
    AND backfill_request.entity = extracted.entity
    AND (extracted.mode = 'full' OR extracted.previous = backfill_request.snapshot::text)
    AND backfill_request.requested_at < (job.extraction ->> 'taken_at')::timestamptz;

-- name: widen_backfill_requests
-- What is left to be filled in of an entity that was just full: everything, for that run may have held what is in no log.
-- So whatever begins in the past has seen nothing but incremental runs since, and the guards of then are those of now.
-- $1 jobs
UPDATE exportd.backfill_request
SET snapshot = NULL, taken_at = NULL, guards = NULL, full_reason = 'REQUESTED'
FROM exportd.job
CROSS JOIN jsonb_to_recordset(job.extraction -> 'entities') AS extracted (entity text, mode text)
WHERE job.id = ANY ($1::uuid[])
    AND backfill_request.schedule_id = job.schedule_id
    AND backfill_request.entity = extracted.entity
    AND extracted.mode = 'full'
    AND backfill_request.snapshot IS NOT NULL;

-- name: backfill_requests
-- Each as the document that `request_backfill` of schedule_operations takes. $1 schedules
SELECT schedule_id, jsonb_build_object('entity', entity, 'job_id', job_id, 'snapshot', snapshot::text, 'taken_at', taken_at,
                          'guards', guards, 'full_reason', full_reason)::text AS document
FROM exportd.backfill_request
WHERE schedule_id = ANY ($1::uuid[])
ORDER BY entity;

-- name: refresh_requests
-- $1 schedules
SELECT schedule_id, entity FROM exportd.refresh_request WHERE schedule_id = ANY ($1::uuid[]) ORDER BY entity;

-- name: positions
-- $1 schedules
SELECT schedule_id, entity, job_id, snapshot::text, taken_at, destinations, expired,
       CASE jsonb_typeof(guards) WHEN 'string' THEN guards #>> '{}' END AS guards_digest,
       CASE jsonb_typeof(guards) WHEN 'object' THEN guards::text END AS own_guards,
       coalesce(put_back_at > taken_at, false) AS put_back
FROM exportd.position
WHERE schedule_id = ANY ($1::uuid[])
ORDER BY entity;

-- name: fail
-- $1 job, $2 fence, $3 reason, $4 message
WITH failed AS (
    UPDATE exportd.job
    SET state = 'FAILED',
        finished_at = clock_timestamp(),
        reason = $3::text,
        message = $4::text,
        lease_holder = NULL,
        lease_until = NULL,
        lease_spool_id = NULL,
        log_hold = NULL
    WHERE id = $1 AND fence = $2 AND state = 'RUNNING'
    RETURNING id, state, schedule_id
)
SELECT id, pg_notify('exportd_events', json_build_object(
    'kind', 'job_finished', 'id', id, 'state', state, 'schedule', schedule_id)::text)
FROM failed;

-- name: put_back
-- Give a job back for another attempt. A sealed one keeps its phase, its parts and its hold on the change log.
-- $1 job, $2 fence, $3 seconds until it may be claimed, $4 whether the attempt counts, $5 reason, $6 message
WITH returned AS (
    UPDATE exportd.job
    SET state = 'PENDING',
        not_before = clock_timestamp() + make_interval(secs => $3::float8),
        attempt = attempt - CASE WHEN $4::boolean THEN 0 ELSE 1 END,
        reason = $5::text,
        message = $6::text,
        lease_holder = NULL,
        lease_until = NULL,
        lease_spool_id = NULL,
        log_hold = CASE WHEN phase = 'EXTRACTING' THEN NULL ELSE log_hold END
    WHERE id = $1 AND fence = $2 AND state = 'RUNNING'
    RETURNING id, state
)
SELECT id, pg_notify('exportd_events', json_build_object('kind', 'job_queued', 'id', id, 'state', state)::text)
FROM returned;

-- name: record_delivery
-- One array a column: $1 job, $2 fence, $3 destination, $4 SHA-256 of the manifest
WITH held AS MATERIALIZED (
    SELECT job.id, job.schedule_id, given.destination, given.manifest_sha256
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS given (id, fence, destination, manifest_sha256)
    JOIN exportd.job USING (id)
    WHERE job.fence = given.fence AND job.state = 'RUNNING'
    ORDER BY job.id
    FOR NO KEY UPDATE OF job
), completed AS (
    DELETE FROM exportd.upload
    USING held
    WHERE upload.job_id = held.id AND upload.destination = held.destination
)
INSERT INTO exportd.delivery (job_id, destination, schedule_id, manifest_sha256)
SELECT id, destination, schedule_id, manifest_sha256
FROM held
ON CONFLICT (job_id, destination) DO UPDATE
SET manifest_sha256 = excluded.manifest_sha256, published_at = clock_timestamp()
RETURNING job_id AS id;

-- name: last_delivery
-- The newest thing a destination received of a schedule, other than from the job $3 (null: no exception).
-- $1 schedule, $2 destination, $3 job
SELECT job_id, manifest_sha256
FROM exportd.delivery
WHERE schedule_id = $1 AND destination = $2 AND job_id IS DISTINCT FROM $3::uuid
ORDER BY published_at DESC
LIMIT 1;

-- name: redelivered
-- The jobs that a destination received of a schedule and whose changes come again, oldest first: those since its last
-- success, although they failed elsewhere; and in a back-fill those that read later than its windows begin.
-- $1 uuid: schedule; $2 text: destination; $3 uuid: a job to leave out; $4 array of {entity, previous}: its windows
WITH win AS MATERIALIZED (
    SELECT entity, previous
    FROM jsonb_to_recordset($4::text::jsonb) AS win (entity text, previous text)
), beginning AS MATERIALIZED (
    -- looked up once, not for each entity: most often it is that of all of them
    SELECT win.previous, earlier.taken_at
    FROM (SELECT DISTINCT previous FROM win) AS win
    CROSS JOIN LATERAL (
        SELECT (p.extraction ->> 'taken_at')::timestamptz AS taken_at
        FROM exportd.job AS p
        WHERE p.schedule_id = $1 AND p.state = 'SUCCEEDED' AND p.extraction ->> 'snapshot' = win.previous
        ORDER BY p.due_at DESC
        LIMIT 1
    ) AS earlier
), began AS MATERIALIZED (
    SELECT win.entity, beginning.taken_at
    FROM win
    JOIN beginning USING (previous)
), success AS MATERIALIZED (
    SELECT coalesce(max(finished_at), '-infinity') AS last_at
    FROM exportd.job
    WHERE schedule_id = $1 AND state = 'SUCCEEDED'
)
SELECT d.job_id AS id
FROM exportd.delivery AS d
JOIN exportd.job AS j ON j.id = d.job_id
WHERE d.schedule_id = $1 AND d.destination = $2 AND d.job_id IS DISTINCT FROM $3
  -- follows from the rest; the index needs it
  AND d.published_at > least((SELECT last_at FROM success), (SELECT min(taken_at) FROM began))
  AND (j.state = 'FAILED' AND d.published_at > (SELECT last_at FROM success)
       -- follows from the rest, and costs less: most often the last job read where these windows begin
       OR (j.extraction ->> 'taken_at')::timestamptz > (SELECT min(taken_at) FROM began)
       AND EXISTS (
           SELECT
           FROM jsonb_to_recordset(j.extraction -> 'entities') AS extracted (entity text)
           JOIN began USING (entity)
           WHERE began.taken_at < (j.extraction ->> 'taken_at')::timestamptz))
ORDER BY d.published_at

-- name: earlier_downloads
-- The last successful job of a schedule, after those that read later than a job's windows begin, oldest first.
-- $1 uuid: schedule; $2 uuid: the job, left out; $3 array of {entity, previous}: its windows
WITH win AS MATERIALIZED (
    SELECT entity, previous
    FROM jsonb_to_recordset($3::text::jsonb) AS win (entity text, previous text)
), beginning AS MATERIALIZED (
    -- looked up once, not for each entity: most often it is that of all of them
    SELECT win.previous, earlier.taken_at
    FROM (SELECT DISTINCT previous FROM win) AS win
    CROSS JOIN LATERAL (
        SELECT (p.extraction ->> 'taken_at')::timestamptz AS taken_at
        FROM exportd.job AS p
        WHERE p.schedule_id = $1 AND p.state = 'SUCCEEDED' AND p.extraction ->> 'snapshot' = win.previous
        ORDER BY p.due_at DESC
        LIMIT 1
    ) AS earlier
), began AS MATERIALIZED (
    SELECT win.entity, beginning.taken_at
    FROM win
    JOIN beginning USING (previous)
), last AS (
    SELECT j.id
    FROM exportd.job AS j
    WHERE j.schedule_id = $1 AND j.state = 'SUCCEEDED' AND j.id <> $2
    ORDER BY j.finished_at DESC
    LIMIT 1
), later AS (
    SELECT j.id
    FROM exportd.job AS j
    WHERE j.schedule_id = $1 AND j.state = 'SUCCEEDED' AND j.id <> $2
      -- follows from the rest; the index needs it
      AND j.finished_at > (SELECT min(taken_at) FROM began)
      -- as well, and costs less: most often the last job read where these windows begin
      AND (j.extraction ->> 'taken_at')::timestamptz > (SELECT min(taken_at) FROM began)
      AND EXISTS (
          SELECT
          FROM jsonb_to_recordset(j.extraction -> 'entities') AS extracted (entity text)
          JOIN began USING (entity)
          WHERE began.taken_at < (j.extraction ->> 'taken_at')::timestamptz)
)
SELECT j.id, j.spool_manifest_sha256 AS manifest_sha256, j.id IN (SELECT id FROM later) AS repeated
FROM exportd.job AS j
WHERE j.id IN (SELECT id FROM last UNION SELECT id FROM later)
ORDER BY j.finished_at;

-- name: failed_halfway
-- Failed jobs of which objects may be visible at destinations that have no delivery, oldest first.
-- $1 schedule (null: any, and ad hoc jobs)
SELECT
    id, organization, schedule_id, schedule_code, due_at, entities, format, destinations, start_date, state, phase,
    attempt, not_before, lease_holder, lease_until, spool_id, created_at, started_at, sealed_at, finished_at, expired_at,
    reason, message, progress::text, extraction::text
FROM exportd.job
WHERE state = 'FAILED' AND objects_visible AND ($1::uuid IS NULL OR schedule_id = $1)
ORDER BY finished_at, id;

-- name: record_found_delivery
-- A failed job's manifest was found at a destination: it has everything, but the daemon died before recording it. As of
-- the job's end, so that what it received since stays the newest.
-- $1 job, $2 destination, $3 SHA-256 of the manifest
INSERT INTO exportd.delivery (job_id, destination, schedule_id, manifest_sha256, published_at)
SELECT id, $2::text, schedule_id, $3::text, finished_at
FROM exportd.job
WHERE id = $1 AND state = 'FAILED'
ON CONFLICT (job_id, destination) DO NOTHING;

-- name: mark_cleared
-- $1 job
UPDATE exportd.job SET objects_visible = false WHERE id = $1 AND state = 'FAILED';

-- name: deliveries
-- $1 jobs
SELECT job_id, destination, manifest_sha256, published_at
FROM exportd.delivery
WHERE job_id = ANY ($1::uuid[])
ORDER BY job_id, destination;

-- name: parts
-- $1 jobs
SELECT job_id, entity, number, file_name, rows, content_bytes, size_bytes, sha256
FROM exportd.part
WHERE job_id = ANY ($1::uuid[])
ORDER BY job_id, entity, number;

-- name: attempts
-- The newest 100 are kept, in their order. $1 job
SELECT number, holder, started_at, ended_at, reason, message
FROM exportd.attempt
WHERE job_id = $1
ORDER BY fence;

-- name: extraction
-- $1 job
SELECT extraction::text FROM exportd.job WHERE id = $1;

-- name: get
-- $1 job
SELECT
    id, organization, schedule_id, schedule_code, due_at, entities, format, destinations, start_date, state, phase,
    attempt, not_before, lease_holder, lease_until, spool_id, created_at, started_at, sealed_at, finished_at, expired_at,
    reason, message, progress::text, extraction::text
FROM exportd.job
WHERE id = $1;

-- name: owners
-- $1 jobs
SELECT id, organization FROM exportd.job WHERE id = ANY ($1::uuid[]);

-- name: over_in_spool
-- Of the jobs with files in a spool, those whose files it may not need any more, and those that are not here.
-- $1 jobs, $2 spool, $3 until when the others must have finished
SELECT stored.id, job.state, job.spool_id IS NOT DISTINCT FROM $2::uuid AS sealed_here, job.finished_at
FROM unnest($1::uuid[]) AS stored (id)
LEFT JOIN exportd.job USING (id)
WHERE job.id IS NULL
    OR job.state IN ('SUCCEEDED', 'FAILED')
        AND (job.spool_id IS DISTINCT FROM $2::uuid OR job.finished_at <= $3::timestamptz);

-- name: active_ids
SELECT id FROM exportd.job WHERE state IN ('PENDING', 'RUNNING');

-- name: mark_expired
-- $1 job
UPDATE exportd.job
SET expired_at = clock_timestamp()
WHERE id = $1 AND state IN ('SUCCEEDED', 'FAILED') AND expired_at IS NULL
RETURNING id;
