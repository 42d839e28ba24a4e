"""revisit-ssl run | evaluate | sweep | report: the console script, and ``python -m revisit_ssl``."""

import sys

from revisit_ssl.commands import evaluate, report, run, sweep
from revisit_ssl.commands.flags import guarded
from revisit_ssl.errors import InputError

COMMANDS = {"run": run, "evaluate": evaluate, "sweep": sweep, "report": report}


def main(arguments=None, *, form="revisit-ssl"):
    """Hands over to the command that the first argument names; returns its exit status.

    Args:
        arguments: [str]; None: those of the process.
        form: how it was called, for hints.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in COMMANDS:
        return COMMANDS[name].main(rest, form=f"{form} {name}")
    return guarded(lambda: usage(name, form), form)


def usage(name, form):
    """Prints what there is.

    Raises:
        InputError: ``name`` does not ask for help.
    """
    line = f"usage: {form} {{{','.join(COMMANDS)}}} [flags]"
    if name not in ("-h", "--help"):
        raise InputError(f"unknown command {name!r}; {line}" if name else f"no command given; {line}")
    print(line + "\n")
    for known, module in COMMANDS.items():
        print(f"  {known:10} {module.__doc__.partition(':')[0]}")
    print(f"\nAll flags of a command:  {form} run --help")
