-- From when on an export without a schedule holds what has been modified; null: everything, as for jobs of schedules.
ALTER TABLE exportd.job ADD COLUMN start_date timestamptz;
