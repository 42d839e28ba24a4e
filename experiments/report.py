"""Tables from several runs: python experiments/report.py runs/a runs/b … > table.md

Merges the results of the given workdirs (or results.jsonl files) and prints Markdown: every probe and endpoint beside
the untrained network, mean ± standard deviation over the seeds; then our numbers beside the published ones; then where
each came from. With --out FILE the merged results are written there too.
"""

import os
import sys
from dataclasses import dataclass

import tyro

from revisit_ssl.quiet import quiet_import

with quiet_import():
    from revisit_ssl.command_line import guarded, read_flags
    from revisit_ssl.report.tables import compare, result_table
    from revisit_ssl.results import read_results, write_results


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tables from several runs, as Markdown on the standard output."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Workdirs, or results.jsonl files."""
    out: str | None = None
    """Write the merged results to this file."""


def report(options):
    results = []
    for run in options.runs:
        results += read_results(run if run.endswith(".jsonl") else os.path.join(run, "results.jsonl"))
    # The untrained network belongs to a seed, not to the pretext it was probed beside.
    results = list({(r.key[:-1] if r.pretext == "random" else r.key): r for r in results}.values())
    for heading, table in result_table(results):
        print(f"{heading}\n\n{table.markdown()}\n")
    print(f"{compare(results)}\n")
    print("Measured: " + "; ".join(sorted({f"{r.date[:10]}, commit {r.commit}, {r.hardware}" for r in results})) + ".")
    if options.out:
        write_results(options.out, results)


def main():
    return guarded(lambda: report(read_flags(Report, sys.argv[1:], prog="report.py")), " ".join(sys.argv))


if __name__ == "__main__":
    sys.exit(main())
