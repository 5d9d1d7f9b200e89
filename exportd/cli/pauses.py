"""How commands show a pause."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from exportd.cli.organization_client import OrganizationClient
from exportd.cli.output import moment
from exportd.model.pause import Pause


def pause_in(answer: Mapping[str, Any]) -> Pause | None:
    """What the daemon answers when it is asked for a pause."""
    if not answer["paused"]:
        return None
    return Pause(datetime.fromisoformat(answer["since"]).astimezone(UTC), answer["by"])


def asked_pause(client: OrganizationClient, kind: str, document: Mapping[str, Any]) -> Pause | None:
    """The pause of a schedule or destination that was shown by the API; ``kind`` is the plural in its path."""
    return pause_in(client.client.request("GET", f"/v1/{kind}/{document['id']}/pause"))


def pause_words(pause: Pause | None) -> str:
    """For people; empty when there is none."""
    return "" if pause is None else f"paused since {moment(pause.paused_at)} by {pause.paused_by}"


def pause_document(pause: Pause | None) -> dict[str, str] | None:
    """For programs."""
    return None if pause is None else {"since": pause.paused_at.isoformat(), "by": pause.paused_by}
