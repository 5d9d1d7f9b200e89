"""The completion of commands, in a real bash."""

import sys

import pytest

from tests.fixtures.daemon import run

_COMPLETE = """
source <({python} -m exportd completion bash)
[[ $(complete -p exportd) == *" -F "*" exportd" ]] || exit 1
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
"$(complete -p exportd | sed 's/.*-F \\([^ ]*\\) .*/\\1/')"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sched"], {"schedule"}),
        (["schedule", "re"], {"resume", "refresh"}),
        (["schedule", "create", "--uni"], {"--unit"}),
        (["schedule", "create", "nightly", "--unit", ""], {"MINUTE", "HOUR", "DAY"}),
        (["destination", "create", "lake", "--type", ""], {"S3", "GCS"}),
        (["job", "watch", "--soc"], {"--socket"}),
        (["--config", "x.toml", "job", "wat"], {"watch"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bash_completes(words: list[str], expected: set[str]) -> None:
    script = _COMPLETE.format(python=sys.executable)
    outcome = run(["bash", "--noprofile", "--norc", "-c", script, "bash", "exportd", *words])
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert set(outcome.stdout.split()) == expected
