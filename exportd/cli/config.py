"""``exportd config``: what is in effect, and what can be configured; and ``completion``, for shells."""

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath
from exportd.cli.output import AsJson, print_json, print_line, print_script

app = App(name="config")


@app.command
def show(*, json: AsJson = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Print every setting of the file, also those that it leaves to their defaults. Secrets are masked."""
    from exportd.cli.configuration import load

    settings, _ = load(config)
    document = _masked("", settings.model_dump(mode="json"))
    if json:
        print_json(document)
        return
    for path, value in _flat("", document):
        print_line(f"{path} = {value}")


@app.command
def schema() -> None:
    """Print the JSON schema of the configuration file, for editors."""
    from exportd.settings.schema import Settings

    print_json(Settings.model_json_schema())


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL")], /) -> None:
    """Print the completion of commands for a shell, such as `source <(exportd completion bash)`."""
    from exportd.cli.main import app

    print_script(app.generate_completion(shell=shell))


def _masked(key: str, value: Any) -> Any:
    from exportd.settings.secrets import MASK, mask_secrets, names_a_secret

    if isinstance(value, dict):
        return {name: _masked(name, part) for name, part in value.items()}
    if isinstance(value, list):
        return [_masked(key, part) for part in value]
    if isinstance(value, str):
        return MASK if names_a_secret(key) else mask_secrets(value)
    return value


def _flat(path: str, value: Any) -> list[tuple[str, str]]:
    """A line for each setting: ``limits.jobs``, ``schedule[0].code``; with its value as JSON."""
    from json import dumps

    if isinstance(value, dict) and value:
        parts = [(f"{path}.{name}" if path else name, part) for name, part in value.items()]
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        parts = [(f"{path}[{number}]", part) for number, part in enumerate(value)]
    else:
        return [(path, dumps(value, ensure_ascii=False))]
    return [line for name, part in parts for line in _flat(name, part)]
