"""``rlrf4rec infer``: preference texts by a run's LLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rlrf4rec.cli.console import open_output, safe
from rlrf4rec.cli.live import open_reporter
from rlrf4rec.cli.options import Json, Quiet, RunFolder, Verbose
from rlrf4rec.errors import RequestError

EPILOG = """\b
Examples:
  rlrf4rec infer runs/demo --users 1,19,22
  rlrf4rec infer runs/demo --users @users.txt --samples 4 --json --output texts.jsonl
"""


def infer(
    run: RunFolder,
    users: Annotated[
        str,
        typer.Option(help="User ids, separated by commas; or @FILE with one id a line."),
    ],
    samples: Annotated[int, typer.Option(min=1, help="Texts a user.")] = 1,
    output: Annotated[str, typer.Option("--output", "-o", help="A file; - is stdout.")] = "-",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write preference texts for users of the log with the run's final LLM.

    A user's texts are written by a policy that was not tuned on this user, where there is one; by
    the untuned LLM, where the run tuned none.
    """
    user_ids = _user_ids(users)
    from rlrf4rec.api import load_run

    finished = load_run(run)
    # Opened first: what cannot be written must not be known only after the LLM has written it.
    with open_output(output) as stream:
        with open_reporter(quiet=quiet) as reporter:
            texts = finished.infer(user_ids, samples, reporter)
        for row in texts.iter_rows(named=True):
            if as_json:
                stream.write(json.dumps(row) + "\n")
            else:
                stream.write(f"user {safe(row['user_id'])}, sample {row['sample']}\n")
                stream.write(f"{safe(row['text'])}\n\n")


def _user_ids(users: str) -> list[str]:
    if not users.startswith("@"):
        return [user_id.strip() for user_id in users.split(",") if user_id.strip()]
    try:
        lines = Path(users[1:]).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            "a readable file of user ids, one a line",
            found=f"{users[1:]} ({error})",
            remedy="Check the path after @.",
        ) from error
    return [line.strip() for line in lines if line.strip()]
