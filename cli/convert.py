"""`emperorctl convert`: manifests from what other supervisors read. Asks no Emperor and starts nothing.

The formats are in `emperorctl.models.convert`; here files are read, and manifests and notes written out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from emperorctl.cli.formats import manifest_text, one_or_list, write_json
from emperorctl.cli.options import SimpleOutput
from emperorctl.cli.term import complain
from emperorctl.models.convert.source_format import SourceFormat
from emperorctl.models.errors import UserError
from emperorctl.models.names import printable

if TYPE_CHECKING:
    from emperorctl.models.convert.draft import Conversion, Converted, Given, Note

__all__ = ["convert"]

_STDIN = "-"


@dataclass(frozen=True, slots=True)
class _Read:
    """A file that was read; `mode` is what others may do with it."""

    given: Given
    mode: int


def convert(
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE", hidden=True)] = None,
    *,
    source: Annotated[
        SourceFormat | None,
        typer.Option("--from", help="The files' format, where their names and contents do not say it."),
    ] = None,
    output: Annotated[
        SimpleOutput, typer.Option("--output", "-o", help="How manifests are printed.")
    ] = SimpleOutput.YAML,
    output_dir: Annotated[
        str | None,
        typer.Option(
            "--output-dir",
            metavar="DIR",
            help="Write each vassal into a file of its own; none is overwritten.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print native manifests made from binary patches of uWSGI, supervisord, circus, Procfiles and systemd units.

    FILE is what the other supervisor reads, or - with --from. Whatever could not be carried over is named above
    each manifest and on stderr. Exits 1 if a file can't be read, or something in it can't be converted.
    """
    if not files:
        raise UserError("expected at least one file, or - and --from")
    if _STDIN in files and source is None:
        raise UserError(f"standard input has no name to tell its format by: add --from {'|'.join(SourceFormat)}")
    from emperorctl.models.convert.formats import convert as converted_from

    taken: set[str] = set()
    results: list[tuple[_Read, Conversion]] = []
    failed = False
    for file in files:
        try:
            read = _read(file)
            result = converted_from(read.given, format=source, taken=taken)
        except UserError as error:
            complain(str(error))
            failed = True
            continue
        results.append((read, result))
        failed = failed or bool(result.problems)
        _tell(read.given.file, result)
    written = _write_files(results, output_dir, output) if output_dir is not None else _print(results, output)
    if failed or not written:
        raise typer.Exit(1)


def _read(file: str) -> _Read:
    from emperorctl.models.bounds import MANIFEST
    from emperorctl.models.convert.draft import Given

    if file == _STDIN:
        return _Read(Given(sys.stdin.buffer.read(MANIFEST.size + 1), "<stdin>"), 0o600)
    try:
        # Not to wait for ever on a pipe that nobody writes to.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{file}: is not a regular file: expected a configuration, or - for standard input")
            data = stream.read(MANIFEST.size + 1)
    except OSError as error:
        raise UserError(f"{file}: can't be read: {error.strerror}; expected a configuration file") from None
    except ValueError:
        raise UserError(f"{file}: is not a file's name") from None
    directory = os.path.dirname(os.path.abspath(file))
    return _Read(Given(data, file, directory), stat.S_IMODE(status.st_mode) & 0o644 | 0o600)


def _tell(file: str, result: Conversion) -> None:
    """Notes and problems, in the order of the file, on stderr."""
    for problem in result.problems:
        complain(f"{problem.sentence()} [{problem.reason}]")
    for one in result.converted:
        for note in one.notes:
            complain(_warning(file, note, one.name), prefix="warning: ")
    for note in result.notes:
        complain(_warning(file, note, ""), prefix="warning: ")


def _warning(file: str, note: Note, name: str) -> str:
    place = f"{file}:{note.line}" if note.line is not None else file
    return ": ".join(part for part in (place, name, note.sentence()) if part)


def _comments(file: str, one: Converted, general: Sequence[Note] = ()) -> str:
    """Where a manifest comes from and what it leaves out; `general` are notes on the whole file."""
    lines = [f"from {file}: {one.origin}", *(note.sentence() for note in (*general, *one.notes))]
    return "".join(f"# {printable(line)}\n" for line in lines)


def _print(results: list[tuple[_Read, Conversion]], output: SimpleOutput) -> bool:
    found = [one for _, result in results for one in result.converted]
    if not found:
        return False
    if output is SimpleOutput.JSON:
        write_json(one_or_list([one.manifest for one in found], single=len(found) == 1))
        return True
    texts = [
        _comments(read.given.file, one, () if index else result.notes) + manifest_text(one.manifest)
        for read, result in results
        for index, one in enumerate(result.converted)
    ]
    sys.stdout.write("---\n".join(texts))
    sys.stdout.flush()
    return True


def _write_files(results: list[tuple[_Read, Conversion]], path: str, output: SimpleOutput) -> bool:
    """One file for each vassal; whether all could be written, and there was one."""
    found = [(read, one) for read, result in results for one in result.converted]
    if not found:
        return False
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a name"
        raise UserError(f"{path}: can't be opened: {reason}; expected a directory that is there") from None
    complete = True
    try:
        for read, one in found:
            name = f"{one.name}.{output.value}"
            text = _file_text(read.given.file, one, output)
            try:
                _write_new(directory, name, text.encode(), read.mode)
            except OSError as error:
                complete = False
                complain(_not_written(os.path.join(path, name), error))
                continue
            sys.stdout.write(printable(os.path.join(path, name)) + "\n")
    finally:
        os.close(directory)
    return complete


def _file_text(file: str, one: Converted, output: SimpleOutput) -> str:
    if output is SimpleOutput.JSON:
        import json

        return json.dumps(one.manifest, indent=4) + "\n"
    return _comments(file, one) + manifest_text(one.manifest)


def _not_written(path: str, error: OSError) -> str:
    if error.errno == errno.EEXIST:
        return f"{path}: is there already and was left alone: remove it, or choose another --output-dir"
    return f"{path}: can't be written: {error.strerror}"


def _write_new(directory: int, name: str, data: bytes, mode: int) -> None:
    """The whole file, or none of it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # Environments hold secrets: nobody may read the manifest who could not read the original.
    descriptor = os.open(name, flags, mode, dir_fd=directory)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
