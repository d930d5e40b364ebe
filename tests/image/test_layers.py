"""No secret is in any layer of the images, and the search would find one."""

import secrets
import string
import subprocess

import pytest

from scripts.image import source
from scripts.image.layers import scan

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]
ALPHABET = string.ascii_letters + string.digits


def made_up(length, alphabet=ALPHABET):
    return "".join(secrets.choice(alphabet) for _ in range(length))


PLANTED = {
    "key.pem": f"-----BEGIN EC PRIVATE KEY-----\n{made_up(64)}\n{made_up(64)}\n-----END EC PRIVATE KEY-----\n",
    "log": f"GET /bot{secrets.randbelow(10**9) + 10**9}:AA{made_up(33)}/getMe",
    "notes": f"the key is LTAI_{made_up(32)}.",
    "aws": f"AKIA{made_up(16, string.ascii_uppercase)}",
    ".env": "LOG_LEVEL=INFO\n",
    ".git/HEAD": "ref: refs/heads/main\n",
    "pip.conf": "[global]\nindex-url = https://packages.example.org/simple\n",
    "etc/app.ini": f"DATABASE_PASSWORD={made_up(12)}\n",
    "harmless": "-----BEGIN PRIVATE KEY-----",
    "setuid": "",
    "open/file": "",
    "sticky/file": "",
}
DOCKERFILE = """
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
COPY planted /
RUN rm -r /key.pem /.git && chmod 0666 /harmless /open/file /sticky/file
RUN rm /harmless && chmod 4755 /setuid && chmod 0777 /open && chmod 1777 /sticky
RUN find / -xdev -type f -perm /6000 ! -path /setuid -exec chmod a-s {} +
ENV AGENT_SECRET=0123456789abcdef
"""


@pytest.fixture(scope="module")
def careless(docker_client, tmp_path_factory):
    """An image with everything in it that must not be."""
    folder = tmp_path_factory.mktemp("careless")
    for name, words in PLANTED.items():
        (folder / "planted" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "planted" / name).write_text(words)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    name = f"baal-test-{secrets.token_hex(4)}"
    base = next(image for image in source.base_images(source.ROOT / "Dockerfile.agent") if image.startswith("python"))
    command = ("docker", "buildx", "build", "--load", "--build-arg", f"PYTHON_IMAGE={base}", "--tag", name, str(folder))
    subprocess.run(command, check=True, capture_output=True)
    yield name
    docker_client.images.remove(name)


def test_what_must_not_be_there_is_found_in_every_layer_and_in_the_description(careless):
    found = {(finding.where, finding.what) for finding in scan(careless).findings}

    assert found == {
        ("/key.pem", "a private key"),
        ("/log", "a Telegram bot token"),
        ("/notes", "a LibertAI key"),
        ("/aws", "an AWS key"),
        ("/.env", "must not be in an image"),
        ("/.git", "must not be in an image"),
        ("/.git/HEAD", "must not be in an image"),
        ("/pip.conf", "names a package index"),
        ("/etc/app.ini", "a secret in a variable"),
        ("/setuid", "runs with the rights of its owner or group (mode 4755)"),
        ("/open", "anybody may write to it (mode 777)"),
        ("/open/file", "anybody may write to it (mode 666)"),
        ("its environment", "a secret in a variable"),
        ("docker history", "a secret in a variable"),
    }


@pytest.mark.parametrize("image", ["agent_image", "bot_image"])
def test_no_secret_and_no_loose_right_is_in_our_images(image, request):
    report = scan(request.getfixturevalue(image))

    assert report.layers >= 4
    assert report.files > 5_000
    assert report.findings == []
