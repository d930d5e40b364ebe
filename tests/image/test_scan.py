"""`make scan`: what is in the images, and what pip-audit's answers mean."""

import json
import subprocess

import pytest

from scripts.image.audit import judge
from scripts.image.commands import Refused
from scripts.image.scan import UNREACHED
from tests.containers import ROOT


def answer(*packages):
    return json.dumps({"dependencies": list(packages), "fixes": []})


def test_a_known_vulnerability_is_named():
    verdict = judge(
        answer(
            {"name": "jinja2", "version": "2.4.1", "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"]}]},
            {"name": "uvicorn", "version": "0.40", "vulns": []},
            {"name": "own", "skip_reason": "Dependency not found on PyPI and could not be audited: own (1)"},
        ),
        "Found 1 known vulnerability in 1 package",
    )

    assert verdict is not None
    assert verdict.lines("agent.lock") == [
        "pip-audit: agent.lock: 2 packages, 1 known vulnerabilities",
        "  jinja2 2.4.1: PYSEC-2019-217",
        "  not in its database: own",
    ]


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("", "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='example.org', port=443)"),
        ("", "pip_audit._service.interface.ConnectionError: Could not connect to the vulnerability feed"),
        # A mirror without the histories of its packages: pip-audit itself ends with 0 and "No known vulnerabilities".
        (answer({"name": "uvicorn", "skip_reason": "Dependency not found on PyPI"}), "No known vulnerabilities found"),
    ],
)
def test_a_database_that_cannot_be_reached_is_no_clean_bill(said, complaint):
    assert judge(said, complaint) is None


def test_any_other_failure_is_said():
    with pytest.raises(Refused, match="pip-audit failed: ERROR: Invalid requirements"):
        judge("", "WARNING: something\nERROR: Invalid requirements\n")


@pytest.mark.image
@pytest.mark.timeout(300)
def test_the_contents_of_both_images_are_listed():
    done = subprocess.run(
        ("make", "--no-print-directory", "scan"), cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("build/sbom-agent.json\nbuild/sbom-bot.json\npip-audit: ")
    assert UNREACHED in done.stdout or "bot.lock" in done.stdout
    agent, bot = (json.loads((ROOT / "build" / f"sbom-{what}.json").read_text()) for what in ("agent", "bot"))
    for document, own in ((agent, "pkg:pypi/openai@"), (bot, "pkg:pypi/python-telegram-bot@")):
        assert document["bomFormat"] == "CycloneDX"
        refs = [component["purl"] for component in document["components"]]
        assert len(refs) == len(set(refs))
        for wanted in (own, "pkg:pypi/litestar@", "pkg:deb/debian/tini@", "pkg:deb/debian/ca-certificates@"):
            assert sum(ref.startswith(wanted) for ref in refs) == 1
    assert any(component["name"] == "github.com/caddyserver/caddy/v2" for component in agent["components"])
    assert not any("pkg:golang" in component["purl"] for component in bot["components"])
