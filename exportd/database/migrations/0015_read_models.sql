-- What people look at: attempts of jobs, and the newest jobs and audit rows by whatever they are asked for.

-- Attempts: which daemon worked on a job from when to when, and why each attempt ended. A job's row has the last one only.

CREATE TABLE exportd.attempt (
    job_id        uuid NOT NULL REFERENCES exportd.job (id) ON DELETE CASCADE,
    -- the fence of its lease: it tells apart two attempts of one number, of which the first did not count
    fence         bigint NOT NULL,
    number        integer NOT NULL,
    holder        text NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- null while it runs
    ended_at      timestamptz,
    -- null when the job succeeded
    reason        text,
    message       text,
    PRIMARY KEY (job_id, fence)
);

-- A trigger, because several statements end an attempt, and a daemon of an earlier version runs its own.
CREATE FUNCTION exportd.keep_attempts() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  UPDATE exportd.attempt
  SET ended_at = clock_timestamp(),
      -- another daemon took the job over: what the row says is of an attempt before
      reason = CASE WHEN NEW.fence = OLD.fence THEN NEW.reason ELSE 'INTERRUPTED' END,
      message = CASE WHEN NEW.fence = OLD.fence THEN NEW.message END
  WHERE job_id = NEW.id AND fence = OLD.fence AND ended_at IS NULL;
  IF NEW.fence <> OLD.fence THEN
    INSERT INTO exportd.attempt (job_id, fence, number, holder)
    VALUES (NEW.id, NEW.fence, NEW.attempt, NEW.lease_holder);
    -- A job whose destination is away may be put back for days.
    DELETE FROM exportd.attempt WHERE job_id = NEW.id AND fence <= NEW.fence - 100;
  END IF;
  RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION exportd.keep_attempts() FROM PUBLIC;

CREATE TRIGGER keep_attempts AFTER UPDATE OF state, fence ON exportd.job
FOR EACH ROW
WHEN (NEW.fence <> OLD.fence OR (OLD.state = 'RUNNING' AND NEW.state <> 'RUNNING'))
EXECUTE FUNCTION exportd.keep_attempts();

-- The newest jobs of all and of a schedule; those that failed, and those with a reason. Pages go on from
-- the time and the id of the last one.
DROP INDEX exportd.job_newest;
CREATE INDEX job_newest ON exportd.job (created_at DESC, id DESC);
CREATE INDEX job_of_schedule ON exportd.job (schedule_id, created_at DESC, id DESC) WHERE schedule_id IS NOT NULL;
CREATE INDEX job_failed ON exportd.job (created_at DESC, id DESC) WHERE state = 'FAILED';
CREATE INDEX job_with_reason ON exportd.job (reason, created_at DESC, id DESC) WHERE reason IS NOT NULL;

-- The newest audit rows of an object and of an organization. Their order is that of their ids: a clock may be set back.
DROP INDEX exportd.audit_of_object;
CREATE INDEX audit_of_object ON exportd.audit (object_id, id DESC) WHERE object_id IS NOT NULL;
CREATE INDEX audit_newest_of_organization ON exportd.audit (organization, id DESC) WHERE organization IS NOT NULL;
