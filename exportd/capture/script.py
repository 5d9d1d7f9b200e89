"""The script of capture for a DBA to read and to run: each statement with the least rights that it needs. Pure.

A DBA's session has rights that exportd's role has not, and what lies in the schema exportd is that role's to arrange:
it may have put a trigger on a table of its own, or an index on an expression. So whatever concerns that schema runs as
exportd's role. The DBA's own rights are for the locks and triggers on the application's tables. SET ROLE is no cage
(code that runs may RESET it), and so the script holds DDL only: no statement of it runs a trigger.
"""

from collections.abc import Iterator, Sequence

from exportd.database.quoting import comment, identifier

_WITH_OWN_RIGHTS = ("LOCK TABLE ", "CREATE OR REPLACE TRIGGER ", "DROP TRIGGER ")
"""How the statements on the application's tables begin."""

_BEGIN = (
    "BEGIN",
    "SET LOCAL lock_timeout = '2s'",
    # Names are qualified; an operator or a type of another schema is not to be found in place of Postgres's.
    "SET LOCAL search_path = pg_catalog, pg_temp",
)


def with_least_rights(statements: Sequence[str], role: str) -> tuple[str, ...]:
    """The statements, and before each change of rights the one that changes them; it ends as it began."""
    return tuple(_with_roles(statements, f"SET LOCAL ROLE {identifier(role)}"))


def _with_roles(statements: Sequence[str], assume: str) -> Iterator[str]:
    assumed = False
    for statement in statements:
        wanted = not statement.startswith(_WITH_OWN_RIGHTS)
        if wanted != assumed:
            yield assume if wanted else "RESET ROLE"
            assumed = wanted
        yield statement
    if assumed:
        yield "RESET ROLE"


def without_rows(statements: Sequence[str], triggers: Sequence[str]) -> tuple[str, ...]:
    """The statements without those that write a row, which would run triggers that exportd's role made.

    What the row says, that the log may lack changes, is then said by making all ``triggers`` anew: a position is no
    longer good after that, as after any change of them.
    """
    kept = tuple(statement for statement in statements if not statement.startswith("INSERT INTO "))
    return kept if len(kept) == len(statements) else (*kept, *(one for one in triggers if one not in kept))


def script_of(entity: str, findings: Sequence[str], statements: Sequence[str]) -> str:
    """What makes one entity's capture whole, in one transaction, after a line that says what is wrong with it."""
    lines = [comment(f"{entity}: {'; '.join(findings) or 'whole, nothing to do'}")]
    if statements:
        lines += [f"{statement};" for statement in (*_BEGIN, *statements, "COMMIT")]
        lines.append("")
    return "\n".join(lines)
