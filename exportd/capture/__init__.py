"""Records which rows of the exported tables change: triggers write into one change log for each entity.

``triggers.capture_of`` says what an entity needs in the database. ``installer`` reads what is there, ``repair`` decides
what is missing, and the installer puts it there. ``listener`` receives the triggers' doorbell, ``pruner`` deletes what
no export will read again. ``script`` has the script for the daemon's role in Postgres.
"""
