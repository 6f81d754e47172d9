"""The command `fp16engine`: one file per subcommand.

Exit status: 0 done, 1 the run failed, 2 the command line or an input was wrong, 130 stopped by a signal.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from .. import _early_stop
from ..errors import BackendUnavailable, NonFiniteError, PeerLost, PrecisionViolation
from ..validate import printable
from . import ranks
from .encoding import any_terminal
from .stdout import OutputError, standard_output, streams

DONE, FAILED, WRONG, STOPPED = 0, 1, 2, 130
DEBUG = "FP16ENGINE_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own arguments) and return its exit status.

    Wrong options and inputs end in one sentence on standard error and status 2, with nothing overwritten;
    a run that fails in status 1, one that a signal stops in 130. FP16ENGINE_DEBUG=1 in the environment adds
    the traceback.
    """
    try:
        _early_stop.end()
        with streams(), any_terminal(), standard_output():
            return _run(argv)
    except KeyboardInterrupt:
        return _say("stopped", STOPPED)
    except OutputError as error:
        return FAILED if error.reader_gone else _say(str(error), FAILED)
    except BrokenPipeError:  # standard error's reader is gone
        return FAILED


def _run(argv: Sequence[str] | None) -> int:
    from .commands import build

    try:
        words = list(sys.argv[1:] if argv is None else argv)
        with ranks.told_once(words):
            arguments = build().parse_args(words or ["--help"])
        arguments.argv = words
    except SystemExit as exit:  # argparse leaves this way, after --help too
        return int(exit.code or 0)
    except ValueError as error:
        return _explain(error)
    with _warnings_in_words():
        try:
            status: int = arguments.run(arguments)
            return status
        except (BrokenPipeError, OutputError):
            raise
        except Exception as error:
            return _explain(error)


def run() -> int:
    """Run the process's command line: the console script `fp16engine`."""
    return main()


def _explain(error: Exception) -> int:
    from ..train import Interrupted, SaveError

    wrong_input = (
        ValueError,
        TypeError,
        BackendUnavailable,
        ImportError,
        FileNotFoundError,
        FileExistsError,
        NotADirectoryError,
        IsADirectoryError,
        PermissionError,
    )
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    if isinstance(error, Interrupted):
        return _say(str(error), STOPPED)
    if isinstance(error, NonFiniteError | PrecisionViolation | SaveError | PeerLost):
        return _say(str(error), FAILED)
    if isinstance(error, wrong_input):
        return _say(_sentence(error), WRONG)
    if isinstance(error, MemoryError):
        return _say("not enough memory; a smaller --batch-size or --limit needs less", FAILED)
    if isinstance(error, OSError):
        return _say(_sentence(error), FAILED)
    traceback.print_exception(error)  # not a case anyone foresaw: the traceback belongs into the bug report
    return FAILED


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _say(text: str, status: int) -> int:
    print("\n".join(map(printable, f"fp16engine: {text}".split("\n"))), file=sys.stderr)
    return status


@contextmanager
def _warnings_in_words() -> Iterator[None]:
    """Show warnings as sentences, without file names and source lines."""

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        print(f"fp16engine: warning: {printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("once", UserWarning)
        yield
