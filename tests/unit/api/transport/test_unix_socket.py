"""Users and groups of this machine, by name."""

import os
import pwd

import pytest

from exportd.api.transport.unix_socket import proxy_user_id
from exportd.model.errors import SettingsError


def test_a_proxy_is_a_user_of_its_own() -> None:
    assert proxy_user_id(pwd.getpwuid(1).pw_name) == 1
    for name, words in (
        ("root", "The proxy needs a user of its own"),
        (pwd.getpwuid(os.geteuid()).pw_name, "The proxy needs a user of its own"),
        ("no-such-user", "this machine has no user"),
    ):
        with pytest.raises(SettingsError, match=words) as refused:
            proxy_user_id(name)
        assert "control.proxy_user" in refused.value.sentence
