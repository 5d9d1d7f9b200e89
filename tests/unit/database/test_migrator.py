from exportd.database import migrator


def test_migrations_are_numbered_without_holes() -> None:
    numbers = [step.number for step in migrator.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers[-1] == migrator.SCHEMA_VERSION


def test_a_migration_controls_no_transaction_itself() -> None:
    for step in migrator.migrations():
        lines = [line.strip().upper() for line in step.statements.splitlines()]
        assert not {"BEGIN;", "COMMIT;", "ROLLBACK;"} & set(lines), step.name
