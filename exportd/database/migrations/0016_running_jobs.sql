-- Whenever the dispatcher wakes up, it looks for jobs whose daemon is gone and for cancelled ones. There are few of them,
-- whatever the number of jobs that wait.

CREATE INDEX job_running ON exportd.job (organization) WHERE state = 'RUNNING';
CREATE INDEX job_cancelled ON exportd.job (id) WHERE cancel_requested_at IS NOT NULL AND state IN ('PENDING', 'RUNNING');
