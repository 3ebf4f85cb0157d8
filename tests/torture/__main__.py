"""``python -m tests.torture``: proves, or disproves, that nothing acknowledged is ever lost."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.torture.run import Plan, torture


def main() -> int:
    """Run it; 0 when the guarantee held."""
    options = _options()
    directory = Path(tempfile.mkdtemp(prefix="otel-moesif-torture-", dir=options.directory))
    _say(f"seed {options.seed}, in {directory}")
    plan = Plan(options.seed, options.kills, options.terms, options.noise)
    try:
        report = torture(plan, directory)
    except BaseException:  # also Ctrl-C: whoever looks into it needs the files
        _say(f"not finished; journal, configuration and logs: {directory}")
        raise
    if report.held:
        shutil.rmtree(directory)
    else:
        report.directory = str(directory)
    _say(report.table())
    if options.report:
        options.report.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    return 0 if report.held else 1


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is a command


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    any_seed = random.SystemRandom().randrange(10**6)
    parser.add_argument("--seed", type=int, default=any_seed, help="default: any; it is shown")
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs (50)")
    parser.add_argument("--terms", type=int, default=20, help="SIGTERMs (20)")
    parser.add_argument("--noise", type=int, default=5, help="requests that are no calls, percent (5)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the report there, as JSON")
    parser.add_argument(
        "--directory", type=Path, help="where the run's own directory is made (temporary files)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
