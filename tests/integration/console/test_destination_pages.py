"""Export destinations are created, edited and deleted in pages, as the API does it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from exportd.model.errors import Reason, TransientError
from tests.acceptance.console_browser import BrowserPage, ConsoleBrowser
from tests.integration.api import test_verification_api
from tests.integration.api.request_bodies import ROLE, bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, declared_shelf, path

HOSTILE = "<script>alert('x')</script> \"&quot;\" {{ 7 * 7 }}"
DETAILS: dict[str, str | list[str]] = {
    "organization": ACME,
    "name": "The lake",
    "bucketName": "acme-exports",
    "prefix": "daily",
    "iamRoleArn": ROLE,
}

T = TypeVar("T")


async def in_browser(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def step_two(browser: ConsoleBrowser) -> BrowserPage:
    first = browser.open("/console/destinations/new")
    assert ("kind", "S3") in first.form_with("Next").fields, "AWS S3 is preselected"
    return browser.press(first, "Next")


def created(browser: ConsoleBrowser, **others: str | list[str]) -> BrowserPage:
    return browser.press(step_two(browser), "Create export destination", {**DETAILS, **others})


async def test_a_destination_is_created_in_two_steps_and_shows_what_to_grant(
    api: ApiServer, browser: ConsoleBrowser
) -> None:
    def work() -> None:
        second = step_two(browser)
        order = ["Organization", "Name", "Code", "Bucket name", "Prefix", "IAM role ARN", "Partition order"]
        places = [second.text.index(f" {label} ", second.text.index("Export destination details")) for label in order]
        assert places == sorted(places)
        assert "You can save before its owner has granted anything" in second.text
        made = browser.press(second, "Create export destination", {**DETAILS, "emptyFiles": "false"})
        assert "Entities without records are in the manifest only" in made.text
        assert "The destination is saved. It has not been checked yet" in made.text
        assert f"Trust policy of {ROLE}" in made.text
        assert f'"sts:ExternalId": "{ACME}"' in made.text, "the external id is filled in"
        assert "acme-exports/daily/" in made.text
        assert "No schedule delivers there." in made.text

    await in_browser(work)
    (listed,) = (await api.http.get("/v1/destinations")).json()["data"]
    assert (listed["code"], listed["iamRoleArn"], listed["prefix"]) == ("the-lake", ROLE, "daily")
    assert listed["emptyFiles"] is False
    assert [action for actor, action in await api.audit() if actor.endswith("(console)")] == ["destination created"]


async def test_the_other_kind_has_fields_of_its_own(api: ApiServer, browser: ConsoleBrowser) -> None:
    def work() -> None:
        page = browser.press(browser.open("/console/destinations/new"), "Next", {"kind": "GCS"})
        for label in ("Project number", "Pool ID", "Provider ID", "Service account email"):
            assert label in page.text
        assert "IAM role ARN" not in page.text
        wanted: dict[str, str | list[str]] = {
            "organization": ACME,
            "name": "Other lake",
            "bucketName": "acme-gcs",
            "projectNumber": "123",
            "poolId": "pool",
            "providerId": "no",
        }
        refused = browser.press(page, "Create export destination", wanted)
        assert "Provider ID The provider of the pool. should have 4 to 32 lower-case letters" in refused.text
        assert "Not created." in refused.text
        assert browser.open("/console/destinations/new?kind=FTP").answer.status_code == 400

    await in_browser(work)
    assert (await api.http.get("/v1/destinations")).json()["data"] == []


async def test_what_is_wrong_stands_at_its_field_and_nothing_is_lost(api: ApiServer, browser: ConsoleBrowser) -> None:
    await api.http.post(path(ACME, "destinations"), json=bucket("the-lake"))

    def work() -> None:
        taken = created(browser)
        assert taken.answer.status_code == 400
        hint = "Made from the name when it is empty."
        assert f"{hint} the organization has a destination 'the-lake' already. Choose another code." in taken.text
        wrong = browser.press(taken, "Create export destination", {"code": "second", "iamRoleArn": "role"})
        assert "should be the ARN of a role" in wrong.text
        assert 'value="daily"' in wrong.answer.text
        assert 'value="acme-exports"' in wrong.answer.text
        made = browser.press(wrong, "Create export destination", {"iamRoleArn": ROLE})
        assert made.answer.status_code == 200, made.text
        for name in (
            "organization",
            "name",
            "bucketName",
            "prefix",
            "iamRoleArn",
            "partitionOrder",
            "emptyFiles",
            "kind",
        ):
            for value in ("\0", "X" * 5000, HOSTILE, "\u202e"):
                page = created(browser, **{"code": "\0", name: value})
                assert page.answer.status_code == 400, (name, value)
                assert page.has_only_our_scripts

    await in_browser(work)
    assert len((await api.http.get("/v1/destinations")).json()["data"]) == 2


async def test_an_edit_says_when_another_person_was_faster(api: ApiServer, browser: ConsoleBrowser) -> None:
    made = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()
    here = f"/console/destinations/{made['id']}"
    form = await in_browser(lambda: browser.open(f"{here}/edit"))
    other = {**bucket(), "name": "Theirs", "prefix": "theirs", "version": made["version"]}
    await api.http.put(path(ACME, "destinations", made["id"]), json=other)

    def work() -> None:
        stale = browser.press(form, "Save", {"name": HOSTILE})
        assert stale.answer.status_code == 409
        assert "Another person has changed it meanwhile." in stale.text
        assert "name Theirs" in stale.text
        assert "prefix theirs" in stale.text
        assert stale.has_only_our_scripts
        saved = browser.press(stale, "Save")
        assert saved.answer.status_code == 200
        assert HOSTILE in saved.text
        assert "The destination is changed. Check it again." in saved.text

    await in_browser(work)


async def test_one_in_use_says_by_what_and_is_not_deleted(api: ApiServer, browser: ConsoleBrowser) -> None:
    made = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()
    body = schedule(destinationIds=[made["id"]])
    using = (await api.http.post(path(ACME, "schedules"), json=body)).json()
    await api.http.post(f"/v1/schedules/{using['id']}/run")
    here = f"/console/destinations/{made['id']}"

    def refused() -> None:
        page = browser.open(f"{here}/delete")
        assert "1 schedule delivers there" in page.text
        assert "1 job has not ended yet" in page.text
        assert "Delete export destination" not in {button for form in page.forms for button in form.buttons}
        answer = browser.client.post(f"{here}/delete")
        assert (answer.status_code, "is used by the schedule" in answer.text) == (400, True)

    await in_browser(refused)
    await api.http.delete(path(ACME, "schedules", using["id"]))
    await api.pool.execute("UPDATE exportd.job SET state = 'FAILED', finished_at = now()")

    def work() -> None:
        page = browser.open(f"{here}/delete")
        assert "0 schedules and 0 unfinished jobs use it." in page.text
        assert "The destination lake is deleted." in browser.press(page, "Delete export destination").text
        assert browser.open(here).answer.status_code == 404

    await in_browser(work)


async def test_one_of_the_configuration_is_edited_there(api: ApiServer, browser: ConsoleBrowser) -> None:
    shelf = await declared_shelf(api)

    def work() -> None:
        page = browser.open(f"/console/destinations/{shelf}")
        assert "stands in the configuration file of a daemon" in page.text
        assert not [link for link in page.links if link.endswith(("/edit", "/delete"))]
        assert browser.open(f"/console/destinations/{shelf}/edit").answer.status_code == 400
        assert browser.client.post(f"/console/destinations/{shelf}/delete").status_code == 403

    await in_browser(work)


class _Away:
    """A collaborator that the database does not answer."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        async def fail(*_: object, **__: object) -> None:
            raise TransientError("The database is away.", reason=Reason.DATABASE_UNREACHABLE)

        return fail


AWAY: Any = _Away()


@pytest.mark.parametrize(
    ("address", "button"),
    [
        ("/console/destinations/new?kind=S3", "Create export destination"),
        ("/console/schedules/new", "Create export schedule"),
        ("/console/exports/adhoc", "Run ad hoc export"),
    ],
)
async def test_what_was_filled_in_outlasts_the_database(
    api: ApiServer, browser: ConsoleBrowser, address: str, button: str
) -> None:
    lake = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()["id"]
    form = await in_browser(lambda: browser.open(address))
    away = replace(api.using.destinations, operator=AWAY, table=AWAY)
    api.application.state.collaborators = replace(
        api.using,
        destinations=away,
        schedules=replace(api.using.schedules, table=AWAY),
        jobs=replace(api.using.jobs, owned=AWAY),
    )

    def work() -> None:
        filled = {**DETAILS, "destination": [lake], "entity": ["ACCOUNTS"]}
        kept = browser.press(form, button, filled)
        assert (kept.answer.status_code, "The database is away." in kept.text) == (503, True)
        api.application.state.collaborators = api.using
        done = browser.press(kept, button)
        assert done.answer.status_code == 200, done.text
        assert done.answer.url.path != address

    await in_browser(work)


async def test_without_a_destination_the_schedule_form_says_no_options(browser: ConsoleBrowser) -> None:
    page = await in_browser(lambda: browser.open("/console/schedules/new"))
    assert "No options." in page.text
    assert "/console/destinations/new" in page.links


async def test_what_was_delivered_is_verified_from_the_page_of_the_destination_or_of_a_job(
    api: ApiServer, browser: ConsoleBrowser
) -> None:
    shelf = await declared_shelf(api)
    lake = test_verification_api.shelf_of(api)
    job = str(lake.runs[0].job_id)
    await api.pool.execute(
        """INSERT INTO exportd.job (id, organization, due_at, entities, format, destinations, state, finished_at)
           VALUES ($1::text::uuid, $2, now(), '{ACCOUNTS}', 'CSV', '{shelf}', 'SUCCEEDED', now())""",
        job,
        ACME,
    )
    await api.pool.execute(
        "INSERT INTO exportd.delivery (job_id, destination, manifest_sha256) VALUES ($1::text::uuid, 'shelf', $2)",
        job,
        "ab" * 32,
    )
    here = f"/console/destinations/{shelf}"
    page = await in_browser(lambda: browser.press(browser.open(here), "Verify now"))
    assert page.answer.url.path == f"{here}/verification"
    await test_verification_api.ended(api, shelf)
    whole = await in_browser(lambda: browser.open(f"{here}/verification"))
    assert "Nothing is missing, nothing was altered: 2 files of 2 runs" in whole.text
    assert "\u2713 good" in (await in_browser(lambda: browser.open(here))).text
    for file in (api.folder / f"shelf of {ACME}").rglob("*.gz"):
        file.unlink()
    asked = await in_browser(lambda: browser.press(browser.open(f"/console/jobs/{job}"), "Verify now"))
    assert str(asked.answer.url).endswith(f"{here}/verification?job={job}")
    await test_verification_api.ended(api, shelf)
    damaged = await in_browser(lambda: browser.open(f"{here}/verification?job={job}"))
    assert "2 things are wrong with 0 files of 2 runs." in damaged.text
    assert damaged.text.index(f"Job {job[:8]}") < damaged.text.index(f"Job {str(lake.runs[1].job_id)[:8]}")
    assert damaged.has_only_our_scripts
    hostile = await in_browser(lambda: browser.open(f"{here}/verification?job=%3Cscript%3E"))
    assert (hostile.answer.status_code, "<script>" in hostile.answer.text) == (200, False)

    def refused() -> None:
        for destination in ("", "\0", "pond", "<script>"):
            answer = browser.client.post(f"/console/jobs/{job}/verification", data={"destination": destination})
            assert (answer.status_code, "<script>" in answer.text) == (400, False), destination
        assert browser.client.post(f"{here}x/verification").status_code == 404

    await in_browser(refused)
