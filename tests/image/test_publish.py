"""`make push` and `make release`, in a repository of their own, to a registry on loopback."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest
from docker.errors import ImageNotFound

from scripts.image import changelog, push, release, source
from scripts.image.commands import Refused
from scripts.image.limits import RELEASED
from tests.containers import ROOT, image_names
from tests.image.registry import registry  # noqa: F401  a fixture

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]
NOWHERE = "127.0.0.1:9"
ONE_ATTACK = """
import pytest
from tests.image.test_attacks_all import test_a_tool_is_nobody
pytestmark = pytest.mark.image
"""


class Repository:
    """A clone that may be changed."""

    def __init__(self, folder):
        self.folder = folder

    def git(self, *words):
        person = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        done = subprocess.run(("git", *person, *words), cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, files):
        for name, words in files.items():
            (self.folder / name).write_text(words)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "A change", "--allow-empty")

    def read(self, name):
        return (self.folder / name).read_text()

    def state(self):
        return (
            self.git("rev-parse", "HEAD"),
            self.git("status", "--porcelain"),
            self.git("tag"),
            self.git("worktree", "list"),
        )

    def make(self, module, *arguments):
        """What the Makefile runs; a make of its own would make a `.venv` of its own."""
        author = {
            f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        return subprocess.run(
            (sys.executable, "-m", f"scripts.image.{module}", *arguments),
            cwd=self.folder,
            env=os.environ | author,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def original(agent_image, bot_image):
    """This tree as it is, committed, with one attack for the list. Its images come from the cache."""
    with source.copied(ROOT) as folder:
        repository = Repository(folder)
        repository.git("init", "--quiet", "--initial-branch=main")
        tests = folder / "tests" / "image"
        (tests / "test_attacks.py").rename(tests / "test_attacks_all.py")
        log = "# Changelog\n\n## Unreleased\n\n- Something new.\n\n## 0.0.1\n\n- Something old.\n"
        repository.commit({"tests/image/test_attacks.py": ONE_ATTACK, "CHANGELOG.md": log})
        yield repository


@pytest.fixture
def clone(original, tmp_path):
    repository = Repository(tmp_path / "clone")
    original.git("clone", "--quiet", "--local", str(original.folder), str(repository.folder))
    return repository


def forget(docker_client, path):
    for name in image_names(docker_client, path):
        with suppress(ImageNotFound):  # the last tag takes the digest along
            docker_client.images.remove(name)


@pytest.fixture
def place(registry, docker_client):  # noqa: F811
    """Where to push; the names that were made for it here are gone afterwards."""
    path = f"{registry}/t{secrets.token_hex(4)}"
    yield path
    forget(docker_client, path)


def pulled(docker_client, line):
    """Have nothing but what a digest line names, from the registry; its labels."""
    reference = line.partition("=")[2]
    docker_client.images.remove(reference.partition("@")[0])
    docker_client.api.pull(reference)
    return docker_client.images.get(reference).labels


def test_what_is_pushed_can_be_pulled_by_the_printed_digest(clone, place, docker_client):
    done = clone.make("push", place)

    assert done.returncode == 0, done.stderr
    agent, bot = done.stdout.splitlines()
    revision = clone.git("rev-parse", "--short=12", "HEAD")
    tag = f"{source.version(clone.folder)}-g{revision}"
    assert re.fullmatch(rf"AGENT_IMAGE={place}/baal/agent:{tag}@sha256:[0-9a-f]{{64}}", agent)
    assert re.fullmatch(rf"BOT_IMAGE={place}/baal/bot:{tag}@sha256:[0-9a-f]{{64}}", bot)
    for line in (agent, bot):
        assert pulled(docker_client, line)["org.opencontainers.image.revision"] == revision


@pytest.mark.parametrize("change", [{"agent/app.py": "# changed\n"}, {"new.txt": "untracked\n"}])
def test_a_tree_that_is_not_clean_is_not_pushed(clone, change):
    (name, words) = next(iter(change.items()))
    (clone.folder / name).write_text(words)

    done = clone.make("push", NOWHERE)

    assert done.returncode == 1
    assert done.stderr == f"the tree is not clean ({name}): commit or remove what `git status` lists\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "REGISTRY=host:port"),
        (("https://registry.example.org",), "no registry"),
        (("Registry:5000",), "no registry"),
    ],
)
def test_a_place_that_is_none_is_refused_in_one_line(clone, arguments, complaint):
    done = clone.make("push", *arguments)

    assert done.returncode == 1
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_starts_from_a_stand_in_is_for_rehearsals_only(clone, place, docker_client):
    name = f"{place}/base"
    docker_client.api.import_image_from_data(bytes(10240), repository=name, tag="1")

    assert push.is_made_here(f"{name}:1")
    push.push(f"{name}:1")
    assert not push.is_made_here(f"{name}:1")

    push.refuse_standins("localhost:5000", clone.folder)
    bases = {base for what in ("agent", "bot") for base in source.base_images(clone.folder / f"Dockerfile.{what}")}
    if any(map(push.is_made_here, bases)):
        with pytest.raises(Refused, match="is a stand-in made on this machine"):
            push.refuse_standins("registry.example.org", clone.folder)


def test_a_registry_that_does_not_answer_is_named(clone, docker_client):
    done = clone.make("push", NOWHERE)

    assert done.returncode == 1
    assert done.stdout == ""
    assert f"pushing {NOWHERE}/baal/agent:" in done.stderr.splitlines()[-1]
    forget(docker_client, NOWHERE)


def test_a_release_is_built_checked_recorded_committed_tagged_and_pushed(clone, place, docker_client):
    done = clone.make("release", "--version", "9.8.7", "--registry", place)

    assert done.returncode == 0, done.stdout + done.stderr
    *_, agent, bot = done.stdout.splitlines()
    assert agent.startswith(f"AGENT_IMAGE={place}/baal/agent:9.8.7@sha256:")
    assert bot.startswith(f"BOT_IMAGE={place}/baal/bot:9.8.7@sha256:")
    assert "git push --follow-tags" in done.stderr
    assert clone.git("rev-parse", "v9.8.7^{commit}") == clone.git("rev-parse", "main")
    assert clone.git("status", "--porcelain") == ""
    assert source.version(clone.folder) == "9.8.7"
    assert re.search(r"^## 9\.8\.7 - \d{4}-\d\d-\d\d\n\n- Something new\.$", clone.read("CHANGELOG.md"), re.MULTILINE)
    assert json.loads(clone.read(str(RELEASED)))["version"] == "9.8.7"
    assert "ok      a tool is nobody" in done.stdout
    labels = pulled(docker_client, agent)
    assert labels["org.opencontainers.image.version"] == "9.8.7"
    assert labels["org.opencontainers.image.revision"] == clone.git("rev-parse", "--short=12", "main")


def test_a_tree_that_went_on_meanwhile_is_neither_moved_nor_tagged(clone):
    clone.git("checkout", "--quiet", "-b", "release")
    clone.commit({"new.txt": "the release\n"})
    release_commit = clone.git("rev-parse", "HEAD")
    clone.git("checkout", "--quiet", "main")
    clone.commit({"other.txt": "meanwhile\n"})
    before = clone.state()

    with pytest.raises(Refused, match="this tree changed while the release was made"):
        release._take(clone.folder, release_commit, "9.8.7")

    assert clone.state() == before


def test_a_release_that_fails_on_the_way_leaves_the_tree_as_it_was(clone):
    clone.commit({"Dockerfile.agent": clone.read("Dockerfile.agent") + "RUN false\n"})
    before = clone.state()

    done = clone.make("release", "--version", "9.8.7", "--registry", NOWHERE)

    assert done.returncode == 1
    assert "ended with code 1" in done.stderr.splitlines()[-1]
    assert clone.state() == before


@pytest.mark.parametrize("version", ["", "9.8", "v9.8.7", "9.8.7-rc1", "09.8.7"])
def test_what_is_not_a_version_is_not_released(clone, version):
    done = clone.make("release", "--version", version, "--registry", NOWHERE)

    assert done.returncode == 1
    assert done.stderr.endswith("is not a version: make release VERSION=x.y.z REGISTRY=…\n")


@pytest.mark.parametrize(("last", "wanted"), [("1.2.3", "1.2.3"), ("1.2.3", "1.2.2"), ("1.10.0", "1.9.9")])
def test_an_older_version_is_not_released(clone, last, wanted):
    clone.git("tag", f"v{last}")
    clone.git("tag", "very-old")

    with pytest.raises(Refused, match=f"{wanted} is not newer than the last release, {last}"):
        changelog.refuse_version(wanted, clone.folder)


@pytest.mark.parametrize("log", ["# Changelog\n", "# Changelog\n\n## Unreleased\n\n## 0.1.0\n\n- Old.\n"])
def test_a_release_without_news_is_refused(clone, log):
    clone.commit({"CHANGELOG.md": log})

    done = clone.make("release", "--version", "9.8.7", "--registry", NOWHERE)

    assert done.returncode == 1
    assert "CHANGELOG.md has no entries" in done.stderr


def test_a_release_of_a_dirty_tree_is_refused(clone):
    (clone.folder / "notes.txt").write_text("not committed")

    done = clone.make("release", "--version", "9.8.7", "--registry", NOWHERE)

    assert done.returncode == 1
    assert done.stderr.startswith("the tree is not clean (notes.txt)")


def test_a_docker_that_does_not_answer_is_said_in_one_line(clone, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")

    done = clone.make("build")

    assert done.returncode == 1
    assert done.stderr.startswith("Docker does not answer: start its daemon")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["build", "push", "check", "release", "run_agent"])
def test_without_docker_it_says_so_in_one_line(clone, module, monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    arguments = {"push": (NOWHERE,), "release": ("--version", "9.8.7", "--registry", NOWHERE)}

    done = clone.make(module, *arguments.get(module, ()))

    assert done.returncode == 1
    assert done.stderr == "needs Docker: install it (Debian: docker.io and docker-buildx)\n"
