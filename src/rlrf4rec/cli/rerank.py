"""``rlrf4rec rerank``: candidate lists in, ranked lists out, as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from rlrf4rec.cli.console import open_output, require_run
from rlrf4rec.cli.options import RunFolder, Verbose
from rlrf4rec.errors import RequestError

if TYPE_CHECKING:
    from rlrf4rec.serving import RankRequest, RatingScale

EPILOG = """\b
Examples:
  rlrf4rec rerank runs/demo --input lists.jsonl --output ranked.jsonl
  echo '{"user_id": "22", "candidates": ["242", "302", "51"]}' | rlrf4rec rerank runs/demo -i -
  echo '{"history": [["242", 5], ["302", null]], "candidates": ["51", "346"]}' \\
    | rlrf4rec rerank runs/demo --input -
"""


def rerank(
    run: RunFolder,
    source: Annotated[str, typer.Option("--input", "-i", help="A file of JSON lines; - is stdin.")],
    output: Annotated[str, typer.Option("--output", "-o", help="A file; - is stdout.")] = "-",
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Lists ranked together; 1 answers each line as it comes."),
    ] = 256,
    verbose: Verbose = False,
) -> None:
    """Rank candidate lists with a finished run's reranker; no LLM is loaded.

    Each input line is {"user_id": …, "candidates": […]} or {"history": [[item, rating], …],
    "candidates": […]}. Each answer holds the ranking, best first; items that the run does not know
    come last, with score null and "known": false. A bad line is named and ends the stream: on
    stdout the lines before it are answered, a file is written only when all lines are.
    """
    require_run(run)
    from rlrf4rec.serving import Reranker
    from rlrf4rec.serving.requests import to_json

    reranker = Reranker.load(run)
    with _open_input(source) as lines, open_output(output) as answers:
        for batch in _batches(lines, batch_size, reranker.rating_scale):
            for request, ranking in zip(batch, reranker.rerank_many(batch), strict=True):
                answers.write(to_json(request, ranking) + "\n")
            answers.flush()


def _batches(
    lines: Iterable[bytes], size: int, scale: RatingScale | None
) -> Iterator[list[RankRequest]]:
    """Requests of the lines that are not blank; those before a bad line come before its error."""
    from rlrf4rec.serving.requests import parse_request

    batch: list[RankRequest] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            batch.append(parse_request(line, number, scale))
        except RequestError:
            if batch:
                yield batch
            raise
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _open_input(source: str) -> AbstractContextManager[BinaryIO]:
    if source == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise RequestError(
            "a readable file of requests",
            found=f"{source} ({error.strerror})",
            remedy="Pass the path of a JSON lines file, or - for stdin.",
        ) from error
