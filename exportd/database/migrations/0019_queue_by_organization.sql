-- The queue by organization: a claim asks whose turn is next, and looks at that organization's jobs alone. So it costs
-- the same with a hundred jobs that wait and with ten thousand.

ALTER TABLE exportd.turn ADD COLUMN unfinished bigint NOT NULL DEFAULT 0;
CREATE INDEX turn_next ON exportd.turn (number, organization) WHERE unfinished > 0;
CREATE INDEX job_unfinished_of_organization ON exportd.job (organization, due_at, id)
    WHERE state IN ('PENDING', 'RUNNING');

-- Triggers, because several statements queue and end jobs, and a daemon of an earlier version runs its own. Each takes
-- the rows of exportd.turn in the order of their organizations, so that two never wait for each other.

-- An organization that never had a turn has a number below all of the sequence's: the longer its first job has been
-- due, the lower.
CREATE FUNCTION exportd.count_queued_jobs() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  INSERT INTO exportd.turn (organization, number, unfinished)
  SELECT organization, min((extract(epoch FROM due_at) * 1000000)::bigint) - 4611686018427387904, count(*)
  FROM queued
  WHERE state IN ('PENDING', 'RUNNING')
  GROUP BY organization
  ORDER BY organization
  ON CONFLICT (organization) DO UPDATE
  SET unfinished = turn.unfinished + excluded.unfinished,
      number = CASE WHEN turn.number < 0 THEN least(turn.number, excluded.number) ELSE turn.number END;
  RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION exportd.count_queued_jobs() FROM PUBLIC;

CREATE FUNCTION exportd.count_ended_jobs() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  INSERT INTO exportd.turn (organization, number, unfinished)
  SELECT organization, 0, sum((after.state IN ('PENDING', 'RUNNING'))::integer
                              - (before.state IN ('PENDING', 'RUNNING'))::integer)
  FROM before
  JOIN after USING (id, organization)
  WHERE (before.state IN ('PENDING', 'RUNNING')) <> (after.state IN ('PENDING', 'RUNNING'))
  GROUP BY organization
  ORDER BY organization
  ON CONFLICT (organization) DO UPDATE SET unfinished = turn.unfinished + excluded.unfinished;
  RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION exportd.count_ended_jobs() FROM PUBLIC;

CREATE TRIGGER count_queued_jobs AFTER INSERT ON exportd.job
REFERENCING NEW TABLE AS queued
FOR EACH STATEMENT EXECUTE FUNCTION exportd.count_queued_jobs();
CREATE TRIGGER count_ended_jobs AFTER UPDATE ON exportd.job
REFERENCING OLD TABLE AS before NEW TABLE AS after
FOR EACH STATEMENT EXECUTE FUNCTION exportd.count_ended_jobs();

-- The triggers' locks keep the jobs as they are until all of them are counted.
INSERT INTO exportd.turn (organization, number, unfinished)
SELECT organization, min((extract(epoch FROM due_at) * 1000000)::bigint) - 4611686018427387904, count(*)
FROM exportd.job
WHERE state IN ('PENDING', 'RUNNING')
GROUP BY organization
ORDER BY organization
ON CONFLICT (organization) DO UPDATE SET unfinished = excluded.unfinished;
