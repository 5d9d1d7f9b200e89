-- Retention: ended jobs, deleted schedules and destinations, and old audit rows do not stay for ever.

-- Until when this schedule's jobs may be missing here: the latest snapshot of a job that was deleted. A spool or a
-- destination that remembers a job from before that remembers nothing of another history of this database.
ALTER TABLE exportd.schedule ADD COLUMN forgotten_until timestamptz;

-- What is old, the oldest first; and what of a schedule is the newest, or holds its change log.
CREATE INDEX job_ended ON exportd.job (finished_at, id) WHERE finished_at IS NOT NULL;
CREATE INDEX job_ended_of_schedule ON exportd.job (schedule_id, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX job_holding_of_schedule ON exportd.job (schedule_id) WHERE log_hold IS NOT NULL;
CREATE INDEX schedule_deleted ON exportd.schedule (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX destination_deleted ON exportd.destination (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX audit_at ON exportd.audit (at);

-- A row of the audit log goes when it is old, and never changes. The daemons delete those older than retention.audit,
-- which is at least these 30 days; Postgres refuses every role that deletes younger ones.
DROP TRIGGER append_only ON exportd.audit;

CREATE OR REPLACE FUNCTION exportd.refuse_to_rewrite_history() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  IF TG_OP = 'DELETE' AND OLD.at < clock_timestamp() - interval '30 days' THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'exportd.audit is only ever added to; only rows older than 30 days can be deleted';
END
$function$;

CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON exportd.audit
FOR EACH STATEMENT EXECUTE FUNCTION exportd.refuse_to_rewrite_history();
CREATE TRIGGER old_enough BEFORE DELETE ON exportd.audit
FOR EACH ROW EXECUTE FUNCTION exportd.refuse_to_rewrite_history();
