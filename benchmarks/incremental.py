"""What changed in a large table, beside the whole of it: the cost has to follow the changes, not the table.

The keys are random UUIDs, so the changed rows are all over the table. A fiftieth of them is deleted. Each round of
changes is exported several times from the same position, right after it was made, before autovacuum has had a look.
One stream reads the changes, so the whole table is read by one stream too.
"""

import statistics

from benchmarks.bills import create_bills
from benchmarks.exporter_process import Export, ExporterProcess, exporter_process
from benchmarks.measurement import Measurement, Options, Say, spread
from benchmarks.server import benchmark_server, connection_to
from exportd.database.connector import Connection
from exportd.model.extraction import Mode

ROWS = 5_000_000
FEW, MANY = 1_000, 100_000
ROUNDS = 5
_DELETED_SHARE = 50

# Random keys in random order, each for one round of changes.
_CHOOSE_KEYS = """
CREATE TABLE public.chosen AS
SELECT row_number() OVER () AS place, id
FROM (SELECT id FROM public.bills ORDER BY hashtextextended(id::text, 7) LIMIT {count}) AS random
"""

# Statements of one row, two to a transaction, and every tenth row three times.
_CHANGE_ONE_BY_ONE = """
DO $$
DECLARE
  place bigint;
  key uuid;
BEGIN
  FOR place, key IN SELECT c.place, c.id FROM public.chosen AS c WHERE c.place BETWEEN {first} AND {last} LOOP
    IF place % {deleted} = 0 THEN
      DELETE FROM public.bills WHERE id = key;
    ELSE
      FOR time IN 1 .. CASE WHEN place % 10 = 1 THEN 3 ELSE 1 END LOOP
        UPDATE public.bills SET version = version + 1, dt_last_modified = now() WHERE id = key;
      END LOOP;
    END IF;
    IF place % 2 = 0 THEN
      COMMIT;
    END IF;
  END LOOP;
END $$
"""

_BATCH = 1_000
_UPDATE_BATCH = """
UPDATE public.bills SET version = version + 1, dt_last_modified = now()
FROM public.chosen AS c
WHERE c.place BETWEEN $1 AND $2 AND c.place % $3 <> 0 AND bills.id = c.id
"""
_DELETE_BATCH = """
DELETE FROM public.bills USING public.chosen AS c
WHERE c.place BETWEEN $1 AND $2 AND c.place % $3 = 0 AND bills.id = c.id
"""


async def measure(options: Options, say: Say) -> list[Measurement]:
    """Ratios of wall time to the full export of the same table."""
    rows, few, many = options.size(ROWS), FEW, options.size(MANY)
    async with benchmark_server(options) as server:
        say(f"making {rows:,} bills")
        dsn = await create_bills(server, rows=rows)
        async with connection_to(dsn) as connection, exporter_process(dsn) as exporter:
            trial = _Trial(connection, exporter, options.repeats(ROUNDS), say)
            await connection.execute(_CHOOSE_KEYS.format(count=few + 2 * many))
            await trial.full()
            one_by_one = await trial.changed("one by one", few)
            many_one_by_one = await trial.changed("one by one", many)
            batches = await trial.changed("in batches", many)
            await trial.full()
    whole_s = statistics.median(full.seconds for full in trial.fulls)

    def entry(name: str, exports: list[Export], limit: float) -> Measurement:
        median_s = statistics.median(export.seconds for export in exports)
        detail = (
            f"{spread((export.seconds for export in exports), 3)} s for {exports[0].rows:,} records "
            f"({exports[0].deleted_rows:,} deleted), {rows:,} rows in full "
            f"{spread(full.seconds for full in trial.fulls)} s"
        )
        return Measurement(name, median_s / whole_s, limit, "lower", detail)

    return [
        entry(f"incremental: {few:,} changed rows, against full", one_by_one, 1 / 200),
        entry(f"incremental: {many:,} changed rows, one by one", many_one_by_one, 1 / 15),
        entry(f"incremental: {many:,} changed rows, in batches", batches, 1 / 15),
    ]


class _Trial:
    """Changes rows that have not been changed yet, and exports them."""

    def __init__(self, connection: Connection, exporter: ExporterProcess, rounds: int, say: Say) -> None:
        self._connection = connection
        self._exporter = exporter
        self._rounds = rounds
        self._say = say
        self._used = 0
        self.fulls: list[Export] = []

    async def full(self) -> None:
        """Export everything; the next changes count from here."""
        self._say("exporting everything")
        self.fulls.append(await self._exporter.export(name="base"))

    async def changed(self, how: str, count: int) -> list[Export]:
        """Change ``count`` rows and export them, several times the same."""
        self._say(f"changing {count:,} rows {how}")
        first, last = self._used + 1, self._used + count
        self._used = last
        if how == "one by one":
            await self._connection.execute(_CHANGE_ONE_BY_ONE.format(first=first, last=last, deleted=_DELETED_SHARE))
        else:
            for start in range(first, last + 1, _BATCH):
                bounds = (start, min(start + _BATCH - 1, last), _DELETED_SHARE)
                await self._connection.execute(_UPDATE_BATCH, *bounds)
                await self._connection.execute(_DELETE_BATCH, *bounds)
        self._say(f"exporting {count:,} changed rows")
        exports = [await self._exporter.export(since="base", name="after") for _ in range(self._rounds)]
        for export in exports:
            if export.mode != Mode.INCREMENTAL or export.rows != count:
                found = f"{export.mode} export ({export.full_reason}) of {export.rows} rows"
                raise AssertionError(f"{found} where {count} were changed")
        # The position that was reached last is where the next changes begin.
        await self._exporter.export(since="base", name="base")
        return exports
