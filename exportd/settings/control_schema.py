"""The tables of the configuration that say who may come in: ``[control]`` with its persons, and ``[metrics]``."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from exportd.model.foreign_text import MAX_DECLARED, MAX_NAME_LENGTH
from exportd.settings.section import (
    Effect,
    FilePath,
    Name,
    Names,
    OptionalFilePath,
    Organization,
    Scope,
    Section,
    Setting,
    check_header,
    check_listen,
    check_public_url,
    is_loopback,
)

EVERY_ORGANIZATION = "ALL"
"""In a person's ``organization``."""


class PersonSettings(Section):
    """A person whom the proxy of `control.proxy_user` names. The proxy has made sure who it is."""

    name: Name
    """What the proxy sends in `control.proxy_header`, letter for letter."""

    role: Literal["reader", "operator", "admin"]
    """What they may do."""

    organization: Organization
    """The only organization that they see, or `"ALL"`. An admin sees all."""


class ControlSettings(Section):
    """The HTTP API: on a Unix socket, and on TCP if you wish.

    On the socket, users are known by their Unix ids. root and the daemon's own user are administrators; other users
    who may open the socket are readers. On TCP, programs have credentials that belong to one organization.
    """

    socket: Annotated[FilePath, Setting(Effect.RESTART, Scope.HOST)] = Path("/run/exportd/control.sock")
    """The Unix socket. Its folder is made if it is not there."""

    group: Annotated[str, Setting(Effect.RESTART, Scope.HOST)] = ""
    """The group that may open the socket (it has mode 0660); the daemon's own when left out."""

    operators: Annotated[Names, Setting(Effect.AT_ONCE, Scope.HOST)] = ()
    """Groups whose members may also create, edit and delete schedules and destinations, and ask for exports."""

    admins: Annotated[Names, Setting(Effect.AT_ONCE, Scope.HOST)] = ()
    """Groups whose members may do everything, such as handing out credentials."""

    listen: Annotated[str, Setting(Effect.RESTART, Scope.HOST), AfterValidator(check_listen)] = ""
    """An address for TCP, such as `"127.0.0.1:8443"`; none when empty. Anything but a loopback address needs TLS."""

    hosts: Annotated[Names, Setting(Effect.RESTART, Scope.HOST)] = ()
    """The names by which clients may call the TCP address, and a proxy the socket, without the port; `localhost` and
    the address itself need not be named."""

    console: Annotated[bool, Setting(Effect.RESTART, Scope.HOST)] = False
    """Whether the console is on the TCP address too. A person signs in there with a program's key and secret, and sees
    what that program may see. Needs `tls_certificate`, on a loopback address too."""

    tls_certificate: Annotated[OptionalFilePath, Setting(Effect.RESTART, Scope.HOST)] = None
    """The certificate chain of the TCP address, in PEM. A reload reads both files again, so a renewed certificate needs
    no restart."""

    tls_key: Annotated[OptionalFilePath, Setting(Effect.RESTART, Scope.HOST)] = None
    """Its private key, in PEM, without a password; users of the machine at large must not be able to read it."""

    proxy_header: Annotated[str, Setting(Effect.AT_ONCE, Scope.HOST), AfterValidator(check_header)] = ""
    """The header in which an authenticating proxy in front of the socket names the person, such as
    `"X-Forwarded-Email"`. It is believed from `proxy_user` alone. A request with it from elsewhere is refused."""

    proxy_user: Annotated[str, Setting(Effect.AT_ONCE, Scope.HOST), Field(max_length=MAX_NAME_LENGTH)] = ""
    """The user of this machine as whom the proxy runs. Every process of that user is believed, so it is a user of its
    own: neither root nor the daemon's."""

    user: Annotated[
        tuple[PersonSettings, ...], Setting(Effect.AT_ONCE, Scope.HOST), Field(strict=False, max_length=MAX_DECLARED)
    ] = ()
    """The persons who may come through that proxy, each a table `[[control.user]]`."""

    public_url: Annotated[str, Setting(Effect.AT_ONCE, Scope.HOST), AfterValidator(check_public_url)] = ""
    """What download links begin with, such as `"https://exports.example.com"`; the address that the client has called
    when empty."""

    signing_key_file: Annotated[OptionalFilePath, Setting(Effect.AT_ONCE, Scope.HOST)] = None
    """A file with at least 32 random bytes that sign tokens and download links; users of the machine at large must not
    be able to read it. Without it a daemon makes the file `signing.key` beside its spool. Daemons that
    answer at the same address need the same key: a daemon refuses tokens that were signed with another one."""

    @model_validator(mode="after")
    def _check_tls(self) -> "ControlSettings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("give both tls_certificate and tls_key, or neither")
        if self.listen and self.tls_key is None and not is_loopback(self.listen):
            raise ValueError(
                f"listen = {self.listen!r} can be reached from elsewhere, and credentials would pass in the clear: "
                "give tls_certificate and tls_key, or listen on 127.0.0.1"
            )
        return self


class MetricsSettings(Section):
    """An address for monitoring: `/metrics`, and the probes `/healthz` and `/readyz`. There is no API on it."""

    listen: Annotated[str, Setting(Effect.RESTART, Scope.HOST), AfterValidator(check_listen)] = ""
    """An address without credentials and without TLS, such as `"127.0.0.1:9464"`; none when empty. Who can reach it
    reads the names of all organizations and schedules, so anything but a loopback address belongs in a network of
    your own."""

    hosts: Annotated[tuple[str, ...], Setting(Effect.RESTART, Scope.HOST), Field(strict=False)] = ()
    """The names by which Prometheus and probes may call that address, without the port; `localhost` and IP addresses
    need not be named."""
