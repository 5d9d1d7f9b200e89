"""Tokens, and the programs that may ask for them.

The official client asks for a token before every single call: it costs one query. Older tokens stay
good. Programs are made and withdrawn by administrators, under ``/v1/clients``.
"""

from urllib.parse import parse_qsl

from fastapi import APIRouter, Request

from exportd.api.dependencies import Access, HandingOut, Limits, MonotonicS, StrictRoute, peer_of_request, too_many
from exportd.api.identity.access import TOKEN_LIFETIME_S
from exportd.api.identity.client_table import Role
from exportd.api.pagination import IdInPath, id_in_path, organization_of
from exportd.api.problems import Refusal, responses
from exportd.api.schemas.operations import (
    AccessToken,
    ClientCreation,
    ClientList,
    CreatedClient,
    ShownClient,
    client_fields,
)
from exportd.model.foreign_text import MAX_DOCUMENT_BYTES, MAX_FIELDS, MAX_TEXT_LENGTH

router = APIRouter(tags=["tokens"], route_class=StrictRoute)

_BODY = {
    "requestBody": {
        "content": {
            media_type: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "grant_type": {"const": "client_credentials"},
                        "scope": {"type": "string", "maxLength": MAX_TEXT_LENGTH},
                    },
                    "required": ["grant_type"],
                }
            }
            for media_type in ("application/json", "application/x-www-form-urlencoded")
        },
        "required": True,
    }
}


@router.post("/oauth/token", responses=responses(400, 401), openapi_extra=_BODY)
async def issue_token(request: Request, access: Access, limits: Limits, now_s: MonotonicS) -> AccessToken:
    """A token for the access key id and secret that come by HTTP Basic authentication."""
    peer = peer_of_request(request)
    if peer is None:
        address = request.client.host if request.client else ""
        wait_s = limits.token.wait_s(address, now_s)
        if wait_s:
            raise too_many("An address may ask for 100 tokens a second.", wait_s)
    token = await access.authenticator.token(peer, request.headers.get("authorization"))
    await _require_grant(request)
    return AccessToken(access_token=token, expires_in=TOKEN_LIFETIME_S)


@router.get("/v1/clients", responses=responses(401, 403))
async def list_clients(_caller: HandingOut, access: Access) -> ClientList:
    """The programs that have credentials."""
    return ClientList(data=[ShownClient.model_validate(client_fields(client)) for client in await access.clients.all()])


@router.post("/v1/clients", responses=responses(400, 401, 403))
async def create_client(caller: HandingOut, access: Access, body: ClientCreation) -> CreatedClient:
    """Credentials for a program of an organization. The secret is shown this one time."""
    organization, role = organization_of(body.organization), Role[body.role.upper()]
    client, secret = await access.clients.create(organization, body.name, role, actor=caller.name)
    return CreatedClient.model_validate({**client_fields(client), "api_secret": secret})


@router.delete("/v1/clients/{id}", responses=responses(401, 403, 404))
async def withdraw_client(caller: HandingOut, access: Access, client_id: IdInPath) -> ShownClient:
    """Withdraw credentials: the secret and its tokens are worth nothing from here on."""
    client = await access.clients.deactivate(id_in_path(client_id, "client"), actor=caller.name)
    return ShownClient.model_validate(client_fields(client))


async def _require_grant(request: Request) -> None:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/x-www-form-urlencoded":
        fields = _form(await request.body())
    else:
        document = await request.json()
        fields = document if isinstance(document, dict) else {}
    if fields.get("grant_type") != "client_credentials":
        raise Refusal(400, "grant_type: should be client_credentials.")
    scope = fields.get("scope")
    if isinstance(scope, str) and len(scope) > MAX_TEXT_LENGTH:
        raise Refusal(400, f"scope: should be at most {MAX_TEXT_LENGTH} characters long.")


def _form(body: bytes) -> dict[str, object]:
    if len(body) > MAX_DOCUMENT_BYTES:
        raise Refusal(413, f"The body is too large: a form has at most {MAX_DOCUMENT_BYTES} bytes.")
    try:
        return dict(parse_qsl(body.decode(errors="replace"), max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise Refusal(400, f"The form should have at most {MAX_FIELDS} fields.") from error
