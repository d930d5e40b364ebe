"""`make demo` without containers: it needs none of what they need, and drives the main job."""

import subprocess
import sys

import psutil
import pytest

from scripts import demo_aleph, leftovers
from scripts.bridge import reachable
from scripts.image.commands import Refused
from scripts.servers import ROOT
from scripts.thinking import choose
from tests.e2e.demo import drive, running, url_of

pytestmark = pytest.mark.e2e


async def test_it_is_driven_once_and_leaves_nothing(tmp_path):
    done = await drive(tmp_path)

    assert done.code == 0, done.said
    assert "“What can I cook with eggs?”" in done.said
    assert "Chef Ada is deleted" in done.said
    assert [line for line in (tmp_path / "processes").read_text().splitlines() if lives(line)] == []


def lives(line: str) -> bool:
    pid, created = line.split()
    return psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).create_time() == float(created)


def test_without_containers_nothing_is_imported_for_them():
    heavy = {"docker", "asyncssh", "aleph", "eth_account"}
    code = f"import sys, scripts.demo; print(*{heavy} & set(sys.modules))"
    done = subprocess.run((sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


async def test_a_second_one_in_the_same_folder_is_refused(tmp_path):
    async with running(tmp_path) as first:
        await url_of(first)

        done = await drive(tmp_path)

        assert (done.code, done.said) == (1, f"a demo runs in {tmp_path} already: end that one first\n")
        assert first.returncode is None


@pytest.mark.parametrize("provider", ["docker", "aleph-sim"])
async def test_without_docker_one_line_says_what_to_do(tmp_path, provider):
    done = await drive(tmp_path, "--provider", provider, path=str(tmp_path))

    assert (done.code, done.said) == (
        1,
        f"PROVIDER={provider} needs Docker: install it (Debian: docker.io and docker-buildx)\n",
    )


async def test_what_a_killed_demo_has_left_is_ended_by_the_next(tmp_path):
    async with running(tmp_path) as killed:
        await url_of(killed)
        killed.kill()
        await killed.wait()
    left = [line for line in (tmp_path / "processes").read_text().splitlines() if lives(line)]
    assert left, "its servers and its bot do not notice"

    leftovers.end_all(tmp_path / "processes")

    assert [line for line in left if lives(line)] == []


def test_another_process_of_the_same_number_is_left_alone(tmp_path):
    file = tmp_path / "processes"
    with subprocess.Popen((sys.executable, "-c", "input()"), stdin=subprocess.PIPE) as other:
        file.write_text(f"{other.pid} 1.0\n")

        leftovers.end_all(file)

        assert other.poll() is None
        other.communicate()
    assert other.returncode != -15


async def test_all_that_is_missing_for_machines_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_aleph, "daemon_problem", lambda: None)
    monkeypatch.setattr(demo_aleph, "is_installed", lambda: False)
    monkeypatch.setattr(demo_aleph, "is_there", lambda _: False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(Refused) as refused:
        await demo_aleph.AlephSite(tmp_path).host()

    registry, builder, root = str(refused.value).splitlines()
    assert registry == "PROVIDER=aleph-sim needs docker-registry: apt-get install docker-registry"
    assert builder.endswith("apt-get install mmdebstrap")
    assert "sudo scripts/standin/vm baal-standin/vm:12-prepared" in root


async def test_a_model_that_containers_cannot_reach_is_refused(monkeypatch):
    monkeypatch.setenv("LLM_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(Refused, match="a container cannot reach"):
        reachable(await choose("local", local=never, scripted=never))


async def never() -> str:
    raise AssertionError("the environment names one")
