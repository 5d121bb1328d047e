"""What predseg is made of: a bill of materials of what is installed, and whether anything of it is known to be vulnerable.

python .ci/supply.py sbom FILE      CycloneDX 1.6, JSON
python .ci/supply.py audit          exit code 1 when a vulnerability is known; skipped where nobody can be asked
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def sbom(file: str) -> int:
    """Write the bill of materials of this environment."""
    options = [
        "--pyproject",
        str(ROOT / "pyproject.toml"),
        "--mc-type",
        "library",
        "--output-reproducible",
        "--no-validate",
        "--of",
        "JSON",
        "--sv",
        "1.6",
        "-o",
        file,
    ]
    done = subprocess.run([sys.executable, "-m", "cyclonedx_py", "environment", *options], check=False)
    if done.returncode == 0:
        print(f"{len(json.loads(Path(file).read_text('utf-8'))['components']):,} packages listed in {file}")
    return done.returncode


def audit(*options: str) -> int:
    """Ask whether anything that is installed is known to be vulnerable."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--format",
        "json",
        "--progress-spinner",
        "off",
        "--timeout",
        "15",
        *(options or ("--skip-editable",)),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    code, said = judged(done.stdout, done.stderr)
    print(said)
    return code


def judged(answer: str, trouble: str) -> tuple[int, str]:
    """Return exit code and words for what pip-audit answered; without an answer nothing is known, and that is said."""
    try:
        found = json.loads(answer)["dependencies"]
    except (ValueError, KeyError):
        why = next((line for line in reversed(trouble.strip().splitlines()) if line.strip()), "no answer")
        return 0, f"audit skipped, so nothing is known of vulnerabilities: the service did not answer ({why.strip()[:200]})"
    bad = [f"{one['name']} {one['version']}: {wrong['id']}{_mended(wrong)}" for one in found for wrong in one.get("vulns", ())]
    unknown = sum("skip_reason" in one for one in found)
    checked = f"{len(found) - unknown:,} packages checked" + (f", {unknown:,} not known to the service" if unknown else "")
    return int(bool(bad)), "\n".join([f"{checked}, {len(bad)} vulnerabilities", *bad])


def _mended(wrong: dict[str, Sequence[str]]) -> str:
    return f", mended in {', '.join(wrong['fix_versions'])}" if wrong.get("fix_versions") else ""


if __name__ == "__main__":
    sys.exit({"sbom": sbom, "audit": audit}[sys.argv[1]](*sys.argv[2:]))
