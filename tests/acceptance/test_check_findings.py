"""What ``exportd check`` finds before the first run, that would be found by nothing else until an export fails."""

from typing import Any

import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Section, Site

TYPED = """
ALTER TABLE public.accounts ADD COLUMN tenant_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000001'
"""


def configure(site: Site, catalog: str = CATALOG, **sections: Section) -> None:
    site.configure(
        catalog, {"destination": [destination("lake", site.destination())], "schedule": [schedule()], **sections}
    )


async def lines(site: Site, kind: str) -> list[str]:
    outcome = await site.quickly("check")
    assert outcome.stderr == ""
    return [line.removeprefix(kind).strip() for line in outcome.stdout.splitlines() if line.startswith(kind)]


async def test_an_organization_that_the_tables_do_not_have(site: Site, application: Application) -> None:
    configure(site)
    assert not [fix for fix in await lines(site, "fix") if "organization" in fix]
    configure(site, schedule=[schedule(organization="org-9", destinations=[])])
    assert [fix for fix in await lines(site, "fix") if "organization org-9 has no row in public.accounts, " in fix]
    await application.connection.execute(TYPED)
    configure(site, CATALOG.replace('tenant = "organization_id"', 'tenant = "tenant_id"', 1))
    fixes = await lines(site, "fix")
    assert [fix for fix in fixes if "org-1 is no value of the tenant column tenant_id of public.accounts" in fix], fixes


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"spool": {"directory": "spool", "free_space_floor": "1000 TB"}}, "spool.free_space_floor keeps 1 PB free"),
        ({"control": {"socket": "x" * 120}}, "control.socket: the path has more than 107 bytes"),
    ],
    ids=["no room", "long path"],
)
async def test_a_place_that_cannot_be_used(
    site: Site, application: Application, sections: dict[str, Any], words: str
) -> None:
    configure(site, **sections)
    assert [fix for fix in await lines(site, "fix") if words in fix], words


async def test_a_destination_in_the_cloud_without_an_identity(site: Site, application: Application) -> None:
    bucket = {"code": "cloud", "organization": "org-1", "type": "GCS", "bucket": "some-bucket"}
    configure(site, destination=[destination("lake", site.destination()), bucket])
    assert [fix for fix in await lines(site, "fix") if "cloud" in fix and "credentials_file" in fix]


async def test_what_the_role_is_and_how_often_it_may_connect(site: Site, application: Application) -> None:
    configure(site)
    assert [
        warning
        for warning in await lines(site, "warn")
        if "the role postgres of database.dsn is a superuser" in warning
    ]
    connection = application.connection
    await connection.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 6")
    await connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO few")
    site.dsn = site.database.server.dsn(site.database.name, user="few")
    try:
        configure(site)
        assert [fix for fix in await lines(site, "fix") if "26 connections are needed" in fix and "is 6" in fix]
        assert not [warning for warning in await lines(site, "warn") if "superuser" in warning]
        await connection.execute("ALTER ROLE few CONNECTION LIMIT 26")
        assert not [fix for fix in await lines(site, "fix") if "connections are needed" in fix]
    finally:
        await connection.execute("DROP OWNED BY few")
        await connection.execute("DROP ROLE few")


@pytest.mark.parametrize("place", ["spool", "spool/lake", "."])
async def test_a_destination_that_meets_the_spool_is_refused(site: Site, place: str) -> None:
    configure(site, destination=[destination("lake", site.folder / place)])
    outcome = await site.quickly("run")
    assert outcome.returncode == 2
    assert "the spool" in outcome.stderr
    assert "choose a directory apart" in outcome.stderr
