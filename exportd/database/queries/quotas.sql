-- How much the organizations have, of what has a quota.

-- name: hold
-- Until the end of the transaction no other one adds to what the organization has. $1 organization
INSERT INTO exportd.organization (organization) VALUES ($1)
ON CONFLICT (organization) DO UPDATE SET organization = excluded.organization;

-- name: used
-- Of schedules and destinations those that were made through the API: the configuration is not the organization's.
-- $1 organization
SELECT (SELECT count(*) FROM exportd.schedule
        WHERE organization = $1 AND deleted_at IS NULL AND origin = 'API') AS schedules,
       (SELECT count(*) FROM exportd.destination
        WHERE organization = $1 AND deleted_at IS NULL AND origin = 'API') AS destinations,
       (SELECT count(*) FROM exportd.job WHERE organization = $1 AND state = 'PENDING') AS waiting_jobs,
       (SELECT count(*) FROM exportd.job
        WHERE organization = $1 AND state = 'PENDING' AND schedule_id IS NULL) AS adhoc_jobs,
       (SELECT count(*) FROM exportd.api_client WHERE organization = $1 AND active) AS clients,
       (SELECT count(*) FROM exportd.audit
        WHERE organization = $1 AND at > clock_timestamp() - interval '1 hour') AS changes_per_hour;

-- name: near
-- Those of which an organization has at least a share of what it may have, the fullest first.
-- $1 names of quotas, $2 their limits, $3 share, $4 how many
WITH used AS (
    SELECT organization, 'schedules' AS quota, count(*) AS used
    FROM exportd.schedule WHERE deleted_at IS NULL AND origin = 'API' GROUP BY organization
    UNION ALL
    SELECT organization, 'destinations', count(*)
    FROM exportd.destination WHERE deleted_at IS NULL AND origin = 'API' GROUP BY organization
    UNION ALL
    SELECT organization, 'waiting_jobs', count(*)
    FROM exportd.job WHERE state = 'PENDING' GROUP BY organization
    UNION ALL
    SELECT organization, 'adhoc_jobs', count(*)
    FROM exportd.job WHERE state = 'PENDING' AND schedule_id IS NULL GROUP BY organization
    UNION ALL
    SELECT organization, 'clients', count(*)
    FROM exportd.api_client WHERE active GROUP BY organization
)
SELECT used.organization, used.quota, used.used, allowed.bound
FROM used
JOIN unnest($1::text[], $2::bigint[]) AS allowed (quota, bound) ON allowed.quota = used.quota
WHERE used.used >= allowed.bound * $3::float8
ORDER BY used.used::float8 / allowed.bound DESC, used.organization, used.quota
LIMIT $4;
