"""The command line: every command is one call of a library function, printed.

stdout  the result; with --json one JSON object
stderr  progress and errors
exit    0 done, 1 a fault of dermfuse itself (with its traceback),
        2 an error the user can mend (one line), 3 some trainings failed or were left,
        130 interrupted, 141 nobody reads the result any more
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, cast

import typer
from typer import Option

from dermfuse import __version__
from dermfuse.cli import analyze, data, demo, models, release, reproduce, results, serve
from dermfuse.cli.console import log_to_stderr, say, say_error
from dermfuse.errors import DermfuseError

__all__ = ["app", "main"]

_STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_NAME_ERRNOS = {errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE}  # of a named file
# Typer re-exports BadParameter alone; its base is what every usage error shares, whether Typer
# uses the click package or its own copy of it.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])

_INTERRUPTED, _CLOSED_PIPE = 130, 141  # as a shell has them: 128 and the signal

app = typer.Typer(
    name="dermfuse",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data")
app.add_typer(serve.app, name="web")
for command in (
    analyze.analyze,
    analyze.stress,
    release.card,
    models.presets,
    models.train,
    models.predict,
    demo.demo,
    results.fuse,
    results.evaluate,
    results.compare,
    results.join,
    results.average,
    results.submit,
    results.convert,
    results.tabulate,
    results.ablate,
    results.figures,
    release.export,
    release.release,
    reproduce.reproduce,
    serve.serve,
):
    app.command()(command)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    version: Annotated[bool, Option("--version", help="Print the version.")] = False,
) -> None:
    """Skin cancer detection in dermoscopy images: analyse, train, predict, fuse, evaluate.

    Research software, not a medical device.
    """
    if version:
        say(f"dermfuse {__version__}")
    elif context.invoked_subcommand is None:
        say(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    Args:
        arguments: Those after the program's name; None takes the process's own.
    """
    try:
        with log_to_stderr():
            status = app(args=arguments, prog_name="dermfuse", standalone_mode=False)
        sys.stdout.flush()  # here, so that a closed pipe is met below and not at exit
    except BrokenPipeError:
        _discard_stdout()
        return _CLOSED_PIPE
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        _discard_stdout()  # so Typer and Rich end when they meet one
        return _CLOSED_PIPE
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except (DermfuseError, _UsageError) as error:
        say_error(_one_line(error))
        return 2
    except MemoryError:
        say_error("the machine's memory is full. Use smaller images or a smaller batch.")
        return 2
    except OSError as error:
        gone = error.errno in _NAME_ERRNOS and error.filename  # since it was listed, say
        if error.errno not in _STORAGE_ERRNOS and not gone:
            raise
        where = f"{error.filename} " if error.filename else "a file "
        say_error(f"{where}cannot be read or written ({error.strerror}).")
        return 2
    if status == _INTERRUPTED:
        sys.stderr.write("dermfuse: interrupted\n")
    return status if isinstance(status, int) else 0


def _one_line(error: Exception) -> str:
    """Returns an error's message; a usage error says how to get help."""
    if isinstance(error, DermfuseError):
        return str(error)
    message: str = getattr(error, "format_message", error.__str__)()
    command = getattr(getattr(error, "ctx", None), "command_path", "dermfuse")
    sentence = message if message.endswith("?") else f"{message.rstrip('.')}."
    return f"{sentence} See: {command} --help"


def _discard_stdout() -> None:
    """Sends what is left to flush nowhere: Python would complain about the closed pipe at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
