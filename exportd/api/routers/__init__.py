"""The operations of the API: one module for each noun.

An organization's operations are those of m3ter's API, in ``router``. ``operators`` has the daemon's own, below ``/v1``:
users of the machine see every organization and act for it, programs their own. What they may not see looks as if it did
not exist. Each deed is a row in Postgres, so any daemon may be asked.
"""

from exportd.api.routers import daemon, destinations, entities, jobs, schedules, tokens

ROUTERS = (
    *(schedules.router, destinations.router, jobs.router, tokens.router, daemon.router, jobs.live),
    *(jobs.operators, schedules.operators, destinations.operators, entities.operators, daemon.operators),
)
"""In the order of the OpenAPI document."""
