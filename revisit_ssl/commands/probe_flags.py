"""--probes and --protocol, which are read before the other flags: they decide which flags there are."""

from revisit_ssl.errors import require
from revisit_ssl.evaluators import PROBES
from revisit_ssl.papers.protocols import PROTOCOLS, SELECT


def add_probe_flags(parser):
    """Adds both to an argparse parser; None where they are not given, [] for ``--probes`` with nothing behind it."""
    parser.add_argument("--probes", nargs="*", default=None)
    parser.add_argument("--protocol", default=None)


def check_probe_flags(arguments, probes):
    """InputError for an option of a probe that is not among those that are named."""
    for argument in arguments:
        name = argument.partition(".")[0].removeprefix("--").replace("-", "_")
        known = not argument.startswith("--") or name not in PROBES or name in probes
        named = " ".join(probes) or "none"
        require(known, f"{argument} is an option of {name}, which is not among --probes {named}")


def about_probes(recipe):
    """What a help text says of both."""
    protocols = ",".join((SELECT, *PROTOCOLS))
    return (
        f"--probes {{{','.join(sorted(PROBES))}}} (here {' '.join(recipe.probes) or 'none'}) name what measures the "
        f"features, --protocol {{{protocols}}} (here {recipe.protocol}) whose numbers they take; of probes, only those "
        "that are named have flags below."
    )
