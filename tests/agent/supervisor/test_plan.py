import pytest

from agent.supervisor.plan import BadConfiguration, read_plan

ENVIRONMENT = {
    "PATH": "/bin",
    "AGENT_NAME": "Ada",
    "AGENT_SECRET": "s3cret",
    "LLM_API_KEY": "LTAI_x",
    "AGENT_FD": "7",
    "TLS_MODE": "acme",
    "SITE_HOST": "abc.2n6.me",
    "SOMETHING": "else",
}


def test_each_gets_its_own():
    plan = read_plan(ENVIRONMENT)
    assert plan.agent["AGENT_SECRET"] == "s3cret"
    assert plan.agent["LLM_API_KEY"] == "LTAI_x"
    assert plan.agent["TMPDIR"] == "/data"
    assert plan.caddy["SITE_ADDRESS"] == "abc.2n6.me"
    assert not {"AGENT_FD", "TLS_MODE", "SITE_HOST", "SOMETHING"} & set(plan.agent)
    assert set(plan.caddy) == {"PATH", "HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TLS_MODE", "SITE_ADDRESS", "GOGC"}


def test_the_authority_is_told_whom_to_write_to():
    assert (
        read_plan(ENVIRONMENT | {"ACME_EMAIL": "o.p+a@example.org"}).caddy["ACME_CONTACT"] == "email o.p+a@example.org"
    )


def test_without_a_word_the_certificate_is_the_bots():
    plan = read_plan({})
    assert plan.tls_mode == "files"
    assert plan.caddy["SITE_ADDRESS"] == ":443"
    assert plan.quota.bytes == 1 << 30


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"TLS_MODE": "tls"}, "TLS_MODE"),
        ({"TLS_MODE": "internal", "SITE_HOST": ""}, "SITE_HOST"),
        ({"SITE_HOST": "a b"}, "SITE_HOST"),
        ({"SITE_HOST": "a.example.org,"}, "SITE_HOST"),
        ({"SITE_HOST": "-a.example.org"}, "SITE_HOST"),
        ({"SITE_HOST": "{$AGENT_SECRET}"}, "SITE_HOST"),
        ({"SITE_HOST": "a" * 64 + ".org"}, "SITE_HOST"),
        ({"ACME_CA": "ftp://x"}, "ACME_CA"),
        ({"ACME_CA": "https://x/dir\n}"}, "ACME_CA"),
        ({"ACME_EMAIL": "nobody"}, "ACME_EMAIL"),
        ({"ACME_EMAIL": "a@example.org\n}"}, "ACME_EMAIL"),
        ({"ACME_EMAIL": "a@example.org {$AGENT_SECRET}"}, "ACME_EMAIL"),
        ({"WORKSPACE_MB": "-1"}, "WORKSPACE_MB"),
        ({"WORKSPACE_FILES": "1e9"}, "WORKSPACE_FILES"),
    ],
)
def test_what_caddy_or_the_launcher_could_not_use_is_refused(variables, says):
    with pytest.raises(BadConfiguration, match=says):
        read_plan(ENVIRONMENT | variables)
