"""Put the configuration file into effect."""

from typing import Annotated

from fastapi import APIRouter, Query

from exportd.api.dependencies import Administering, Using
from exportd.api.problems import responses
from exportd.api.schemas.fields import Answer
from exportd.api.transport.request_reader import StrictRoute

router = APIRouter(tags=["daemon"], route_class=StrictRoute)


class ShownChange(Answer):
    """One thing that is different: a key, or what it is (``schedule hourly of org-acme``), and what about it."""

    subject: str
    details: str


class ReloadAnswer(Answer):
    """What a reload has changed, or would change; all of it once more in words. ``disagreements`` are with other
    daemons of the database, a sentence each, as they are now.
    """

    dry_run: bool
    added: list[ShownChange]
    removed: list[ShownChange]
    changed: list[ShownChange]
    needs_restart: list[ShownChange]
    sentences: list[str]
    disagreements: list[str]


@router.post("/v1/reload", responses=responses(400, 401, 403))
async def reload(
    _: Administering,
    using: Using,
    dry_run: Annotated[bool, Query(alias="dryRun", description="Only say what would change.")] = False,
) -> ReloadAnswer:
    """Check the configuration file, and put it into effect; jobs that run end as they began.

    When anything is wrong with the file, nothing is changed, and ``message`` has every problem, a line each.
    """
    difference = await using.reload(dry_run=dry_run)
    return ReloadAnswer.model_validate(
        {
            **difference.to_json(),
            "dryRun": dry_run,
            "sentences": [str(each) for each in difference.changes],
            "disagreements": [each.sentence for each in using.local_status().disagreements],
        }
    )
