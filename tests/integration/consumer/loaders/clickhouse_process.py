"""Runs ClickHouse scripts in a process of its own: the embedded server keeps threads, and lives once in a process.

Arguments: a folder for the server's data, and the folder of the files that scripts may read. Standard input has a JSON
list of scripts. Standard output gets a JSON list with the rows of each script's last statement, every value as
ClickHouse writes it in JSON.
"""

import json
import sys
from typing import Any

from chdb import session


def main() -> None:
    data, files = sys.argv[1:]
    open_session: Any = session.Session  # the library has no types
    server = open_session(f"{data}?user_files_path={files}")
    answers = []
    for script in json.load(sys.stdin):
        answer = str(server.query(script, "JSONCompactEachRow"))
        answers.append([json.loads(line) for line in answer.splitlines()])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
