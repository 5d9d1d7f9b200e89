"""Programs with credentials, and their tokens. Pure."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from exportd.api.identity.client_table import Client
from exportd.api.schemas.fields import Answer, DisplayName, Moment, RequestBody
from exportd.model.bounds import MAX_CODE_LENGTH


class ClientCreation(RequestBody):
    """A program that shall have credentials."""

    organization: Annotated[str, Field(min_length=1, max_length=MAX_CODE_LENGTH)]
    name: DisplayName
    role: Literal["reader", "operator"] = "operator"


class ShownClient(Answer):
    """A program with credentials. ``id`` is its access key id."""

    id: str
    organization: str
    name: str
    role: Literal["reader", "operator"]
    active: bool
    dt_created: Moment
    created_by: str


class CreatedClient(ShownClient):
    """The same, with its secret, which is shown this one time."""

    api_secret: str


class ClientList(Answer):
    """Every program with credentials."""

    data: list[ShownClient]


class AccessToken(Answer):
    """To be sent as ``Authorization: Bearer …``. ``expires_in`` is in seconds."""

    model_config = ConfigDict(alias_generator=None)

    access_token: str
    expires_in: int
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the name of a scheme
    scope: None = None


def client_fields(client: Client) -> dict[str, object]:
    return {
        "id": str(client.id),
        "organization": client.organization,
        "name": client.name,
        "role": client.role.name.lower(),
        "active": client.active,
        "dt_created": client.created_at,
        "created_by": client.created_by,
    }
