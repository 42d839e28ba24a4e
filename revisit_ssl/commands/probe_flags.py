"""--probes and --protocol, which are read before the other flags: they decide which flags there are."""

from revisit_ssl.evaluators import PROBES
from revisit_ssl.papers.protocols import PROTOCOLS, SELECT


def add_probe_flags(parser):
    """Adds both to an argparse parser; None where they are not given, [] for ``--probes`` with nothing behind it."""
    parser.add_argument("--probes", nargs="*", default=None)
    parser.add_argument("--protocol", default=None)


def about_probes(recipe):
    """What a help text says of both."""
    protocols = ",".join((SELECT, *PROTOCOLS))
    return (
        f"--probes {{{','.join(sorted(PROBES))}}} (here {' '.join(recipe.probes) or 'none'}) name what measures the "
        f"features, --protocol {{{protocols}}} (here {recipe.protocol}) whose numbers they take; of probes, only those "
        "that are named have flags below."
    )
