"""``python -m tests.audit PIP_AUDIT``: known vulnerabilities in the pinned versions of constraints.txt.

Exit code 1 if there are any. Where no source of advisories can be reached, one line says so and the exit code
is 0: a machine without network must be able to run ``make check``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINNED = Path(__file__).parents[1] / "constraints.txt"
TIMEOUT_SECONDS = 120


def audit(command: str) -> int:
    """Run pip-audit and judge what it says."""
    options = ["--requirement", str(PINNED), "--no-deps", "--disable-pip", "--format", "json"]
    try:
        ran = subprocess.run(
            [command, *options, "--progress-spinner", "off"],
            capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        found = json.loads(ran.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return _skipped("pip-audit gave no answer")
    audited = [package for package in found if "skip_reason" not in package]
    if not audited:
        return _skipped("its source of advisories knows none of the packages")
    guilty = [(package, flaw) for package in audited for flaw in package["vulns"]]
    for package, flaw in guilty:
        fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
        _say(f"audit: {package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}")
    _say(f"audit: {len(audited)} of {len(found)} pinned versions looked up, {len(guilty)} known flaws")
    return 1 if guilty else 0


def _skipped(why: str) -> int:
    _say(f"audit: skipped: no source of advisories can be reached ({why})")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is a command


if __name__ == "__main__":
    sys.exit(audit(sys.argv[1]))
