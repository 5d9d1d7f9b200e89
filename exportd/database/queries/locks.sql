-- Who has locked what we want.

-- name: holders
-- Sessions and prepared transactions that hold locks on tables, or on their partitions and inheritance children, which are
-- locked with them; those of the oldest transactions first. What others run
-- is none of our business. Without pg_read_all_stats the state and the time of other roles' sessions are NULL.
-- $1 text[]: quoted tables; $2 text[]: modes of lock that are in the way (null: all)
WITH RECURSIVE wanted (relation) AS (
    SELECT pg_catalog.to_regclass(name)::oid FROM unnest($1::text[]) AS named (name)
    UNION
    SELECT member.inhrelid FROM pg_catalog.pg_inherits AS member JOIN wanted ON member.inhparent = wanted.relation
)
SELECT l.pid, a.application_name, a.usename::text AS role, a.state, p.gid,
       coalesce(a.xact_start, p.prepared) AS since
FROM (
    SELECT DISTINCT held.pid, held.virtualtransaction
    FROM pg_catalog.pg_locks AS held
    WHERE held.locktype = 'relation' AND held.granted
      AND held.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND held.relation IN (SELECT relation FROM wanted)
      AND ($2::text[] IS NULL OR held.mode = ANY ($2::text[]))
      AND held.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
) AS l
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_prepared_xacts AS p
       ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction::text
ORDER BY since NULLS LAST, l.pid
LIMIT 6
