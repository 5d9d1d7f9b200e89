-- Jobs as their organization sees them, and exports that it asks for without a schedule.

-- name: page
-- The newest first, those that come after ($7, $8).
-- $1 organization, $2 jobs (null: any), $3 schedule (null: any), $4 state (null: any), $5 created at or after
-- (null: any), $6 created before (null: any), $7 created at (null: from the start), $8 id, $9 how many
SELECT id, schedule_id, state::text, created_at, started_at, start_date
FROM exportd.job
WHERE organization = $1
    AND ($2::uuid[] IS NULL OR id = ANY ($2))
    AND ($3::uuid IS NULL OR schedule_id = $3)
    AND ($4::text IS NULL OR state = $4::text::exportd.job_state)
    AND ($5::timestamptz IS NULL OR created_at >= $5)
    AND ($6::timestamptz IS NULL OR created_at < $6)
    AND ($7::timestamptz IS NULL OR (created_at, id) < ($7, $8::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $9;

-- name: plan_for_these_values
-- In this transaction: a plan for any values could have no use for the index that these have.
SET LOCAL plan_cache_mode = force_custom_plan;

-- name: search
-- Jobs as lists show them, the newest first, those that come after ($7, $8). Of the jobs that an index finds, at most $9
-- are looked at for what has no index: the schedule's code, an entity, a destination.
-- $1 organization, $2 schedule, $3 state, $4 reason, $5 created at or after, $6 created before (each null: any),
-- $7 created at (null: from the start), $8 id, $9 how many are looked at, $10 schedule code, $11 entity, $12 destination
-- (each null: any), $13 how many, $14 jobs (null: any)
SELECT page.id, page.organization, page.schedule_id, page.schedule_code, page.due_at, page.format AS file_format,
       page.destinations, page.start_date, page.state::text, page.phase::text, page.attempt, page.lease_holder AS holder,
       page.created_at, page.started_at, page.finished_at, page.reason, page.message, cardinality(page.entities) AS entities,
       figures.done, figures.rows, figures.deleted_rows, figures.files, figures.size_bytes,
       CASE WHEN page.extraction IS NOT NULL THEN extracted.full_entities END AS full_entities,
       extracted.full_reasons,
       ARRAY(SELECT delivery.destination
             FROM exportd.delivery
             WHERE delivery.job_id = page.id
             ORDER BY delivery.destination) AS delivered_to
FROM (
    SELECT *
    FROM (
        SELECT *
        FROM exportd.job
        WHERE ($1::text IS NULL OR organization = $1)
            AND ($2::uuid IS NULL OR schedule_id = $2)
            AND ($3::exportd.job_state IS NULL OR state = $3)
            AND ($4::text IS NULL OR reason = $4)
            AND ($5::timestamptz IS NULL OR created_at >= $5)
            AND ($6::timestamptz IS NULL OR created_at < $6)
            AND ($7::timestamptz IS NULL OR (created_at, id) < ($7, $8::uuid))
            AND ($14::uuid[] IS NULL OR id = ANY ($14))
        ORDER BY created_at DESC, id DESC
        LIMIT $9
    ) AS examined
    WHERE ($10::text IS NULL OR schedule_code = $10)
        AND ($11::text IS NULL OR $11 = ANY (entities))
        AND ($12::text IS NULL OR $12 = ANY (destinations))
    ORDER BY created_at DESC, id DESC
    LIMIT $13
) AS page
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE (value ->> 'done')::boolean) AS done,
           coalesce(sum((value ->> 'rows')::bigint), 0)::bigint AS rows,
           coalesce(sum((value ->> 'deleted_rows')::bigint), 0)::bigint AS deleted_rows,
           coalesce(sum((value ->> 'files')::bigint), 0)::bigint AS files,
           coalesce(sum((value ->> 'size_bytes')::bigint), 0)::bigint AS size_bytes
    FROM jsonb_each(page.progress -> 'entities')
) AS figures
CROSS JOIN LATERAL (
    SELECT count(*) AS full_entities,
           coalesce(array_agg(DISTINCT full_reason ORDER BY full_reason) FILTER (WHERE full_reason IS NOT NULL), '{}')
               AS full_reasons
    FROM jsonb_to_recordset(page.extraction -> 'entities') AS entity (mode text, full_reason text)
    WHERE mode = 'full'
) AS extracted
ORDER BY page.created_at DESC, page.id DESC;

-- name: last_examined
-- Where a search stops that looked at as many jobs as it may; none when it has come to the end.
-- $1 to $8 as in search, $9 how many it has looked at before this one, $10 jobs (null: any)
SELECT created_at, id
FROM exportd.job
WHERE ($1::text IS NULL OR organization = $1)
    AND ($2::uuid IS NULL OR schedule_id = $2)
    AND ($3::exportd.job_state IS NULL OR state = $3)
    AND ($4::text IS NULL OR reason = $4)
    AND ($5::timestamptz IS NULL OR created_at >= $5)
    AND ($6::timestamptz IS NULL OR created_at < $6)
    AND ($7::timestamptz IS NULL OR (created_at, id) < ($7, $8::uuid))
    AND ($10::uuid[] IS NULL OR id = ANY ($10))
ORDER BY created_at DESC, id DESC
OFFSET $9
LIMIT 1;

-- name: queue
-- A job without a schedule, due now.
-- $1 organization, $2 entities, $3 format, $4 destinations, $5 start date (null: none)
WITH queued AS (
    INSERT INTO exportd.job (organization, due_at, entities, format, destinations, start_date)
    VALUES ($1, clock_timestamp(), $2::text[], $3, $4::text[], $5)
    RETURNING id, state
)
SELECT id, pg_notify('exportd_events', json_build_object('kind', 'job_queued', 'id', id, 'state', state)::text)
FROM queued;

-- name: equal
-- A job without a schedule that has yet to read, and will read the same.
-- $1 organization, $2 entities, $3 format, $4 destinations, $5 start date (null: none)
SELECT id
FROM exportd.job
WHERE organization = $1 AND schedule_id IS NULL AND state = 'PENDING' AND phase = 'EXTRACTING'
    AND cancel_requested_at IS NULL AND format = $3 AND start_date IS NOT DISTINCT FROM $5
    AND entities @> $2::text[] AND entities <@ $2::text[]
    AND destinations @> $4::text[] AND destinations <@ $4::text[]
ORDER BY created_at
LIMIT 1;
