"""Records which rows of the exported tables change: triggers write into one change log for each entity.

``triggers.capture_of`` describes the objects that an entity needs in the database. ``installer`` reads what is
installed, ``repair`` decides what is missing, and the installer installs it. ``listener`` receives the notifications of
the triggers (the doorbell), ``pruner`` deletes log rows that no export will read again. ``script`` writes the script
for the daemon's roles in Postgres.
"""
