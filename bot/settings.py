"""The control plane's settings: the one module of the bot that reads the environment."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from bot.errors import BadSettings

SQLITE, POSTGRES = "sqlite+aiosqlite", "postgresql+psycopg"
DRIVERS = {"sqlite": SQLITE, SQLITE: SQLITE, "postgres": POSTGRES, "postgresql": POSTGRES, POSTGRES: POSTGRES}
"""What people write → what is installed."""
EXAMPLE_URL = "postgresql://user:password@host:5432/database"
EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
"""As agents take it (agent.supervisor.plan)."""
DEBIAN_12 = "b6ff5c3a8205d1ca4c7c3369300eeafff498b558f71b851aa2114afd0a532717"
FALLBACK_MODELS = ("qwen3.6-35b-a3b", "glm-5.2", "gemma-4-31b-it", "deepseek-v4-flash", "hermes-3-8b-tee")


class ProviderName(StrEnum):
    """Where machines come from."""

    LOCAL = "local"
    HOSTS = "hosts"
    ALEPH = "aleph"


class EngineName(StrEnum):
    """What runs agents on a machine."""

    PROCESS = "process"
    DOCKER = "docker"


class TlsName(StrEnum):
    """Whose certificates agents on other machines have."""

    FILES = "files"
    ACME = "acme"


class Settings(BaseSettings):
    """Read from the environment and, below it, from `.env`. `.env.example` explains each."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    telegram_bot_token: SecretStr
    telegram_api_base: str = "https://api.telegram.org"
    bot_encryption_key: SecretStr
    """One Fernet key, or several separated by commas: the first encrypts, all decrypt (rotation)."""

    libertai_api_key: SecretStr = SecretStr("")
    libertai_gateway: str = "https://api.libertai.io"
    libertai_account: str = "https://inference.api.libertai.io"
    llm_base_url: str = ""
    """OpenAI-compatible base URL that agents use; empty: `libertai_gateway`/v1."""
    model_prices_url: str = (
        "https://api2.aleph.im/api/v0/aggregates/0xe1F7220D201C64871Cefb25320a8a588393eE508.json?keys=LTAI_PRICING"
    )
    """Public catalogue with prices and capabilities of LibertAI's models; empty: none is asked."""
    default_models: Annotated[tuple[str, ...], NoDecode] = FALLBACK_MODELS
    """Preferred models, best first, separated by commas."""

    data_dir: Path = Path("data")
    database_url: SecretStr = SecretStr("")
    """SQLAlchemy URL with its password; empty: SQLite in `data_dir`."""

    snapshots_url: str = ""
    """Where agents' snapshots are kept: `s3://bucket/prefix` or `file:///folder`; empty: in `data_dir`."""
    aws_access_key_id: SecretStr = SecretStr("")
    aws_secret_access_key: SecretStr = SecretStr("")
    aws_session_token: SecretStr = SecretStr("")
    aws_region: str = ""
    aws_endpoint_url: str = ""
    """Of a service that speaks S3 and is not Amazon's."""
    snapshot_minutes: int = Field(default=60, ge=0)
    """How often the state of an agent in which something changed is brought to safety; 0: only before risky steps."""
    snapshot_keep_last: int = Field(default=3, ge=1)
    """Snapshots of an agent that are kept, the newest ones, and besides one a day for so many days."""
    snapshot_keep_days: int = Field(default=7, ge=0)
    snapshot_keep_deleted_days: int = Field(default=7, ge=0)
    """After an agent was deleted."""

    provider: ProviderName = ProviderName.LOCAL
    engine: EngineName = EngineName.PROCESS
    docker_host: str = "unix:///var/run/docker.sock"
    docker_network: str = ""
    """Where the bot is itself a container: the network in which it reaches agents by name."""
    agent_image: str = "baal/agent:dev"
    """What agents run: `registry/name:tag[@sha256:…]`. The process engine runs this code, and takes it for a label."""

    rollout_soak_minutes: float = Field(default=10, ge=0)
    """How long the first agents with a new release are watched before others get it."""
    rollout_batch: int = Field(default=5, ge=1)
    """How many get it then; after these a tenth of all at a time, and at least as many."""
    rollout_surge: int = Field(default=5, ge=1)
    """How many are updated at the same time, each with two machines meanwhile."""

    agent_tls: TlsName = TlsName.FILES
    """How agents on other machines prove who they are: a certificate of the bot's own authority, or a public one."""
    acme_email: str = ""
    """For the public authority, which writes when a certificate ends."""
    registry_user: str = ""
    registry_password: SecretStr = SecretStr("")
    """Of a private registry that machines pull `agent_image` from; told to Docker per request, never kept there."""

    ssh_key_file: Path | None = None
    """The private key that opens machines (OpenSSH's format, no passphrase); None: the bot makes one and keeps it."""
    ssh_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """`user@host:port` of own servers for `provider` hosts, separated by commas; root and 22 may be left out."""

    aleph_private_key: SecretStr = SecretStr("")
    """Of the Ethereum wallet whose credits pay for machines."""
    aleph_channel: str = "BAAL"
    """Keeps this deployment's machines apart from everything else of the wallet; of each deployment its own."""
    aleph_rootfs: str = DEBIAN_12
    """Item hash of the root file system that machines start from."""
    aleph_vcpus: int = Field(default=1, ge=1)
    aleph_memory: int = Field(default=2_048, ge=512)
    """MiB of a machine."""
    aleph_disk: int = Field(default=20_480, ge=5_120)
    """MiB of a machine."""
    aleph_api_url: str = "https://api2.aleph.im"
    aleph_crn_list_url: str = "https://crns-list.aleph.sh/crns.json"
    aleph_scheduler_url: str = "https://scheduler.api.aleph.cloud"
    aleph_gateway_url: str = "https://api.2n6.me"

    agent_context_tokens: int = Field(default=11_000, ge=256)
    """Tokens of a conversation that agents send along; with the answer it must fit into the smallest model offered."""
    agent_max_tokens: int = Field(default=4_096, ge=16)
    """Tokens of an answer at most."""
    agent_heartbeat_minutes: int = Field(default=0, ge=0)
    """How often agents look by themselves whether there is something to tell their owner; 0: never."""
    agent_tools: bool | None = None
    """Whether agents have tools. None: if their model can call any, as far as the catalogue knows it; else if it is
    LibertAI's. True: also with models that the catalogue does not know."""

    agent_unconfined_tools: bool = False
    """With the process engine, where nothing confines agents: let them run commands and write files for their owners,
    as the user that the bot runs as."""

    http_port: int = Field(default=0, ge=0, le=65_535)
    """Of the bot's own HTTP door (`/health`); 0: it has none."""
    http_host: str = "127.0.0.1"
    bot_version: str = "dev"
    """Baked into the image, like the git revision."""
    bot_revision: str = "unknown"

    admin_ids: Annotated[tuple[int, ...], NoDecode] = ()
    """Telegram ids of those who hear what an operator should know, separated by commas."""
    agent_idle_minutes: int = Field(default=0, ge=0)
    """So long nobody writes to an agent before it falls asleep, unless its owner says otherwise; 0: never."""
    pool_size: int = Field(default=0, ge=0)
    """Machines that are rented and prepared before anybody needs them; they cost what others cost."""
    pool_hours: float = Field(default=24.0, ge=1)
    """So old a machine of the pool gets before another takes its place."""

    free_tier_daily_messages: int = Field(default=50, ge=0)
    max_agents_per_user: int = Field(default=3, ge=0)
    spend_cap_agent: int = Field(default=0, ge=0)
    """Credits of the provider that the machines of one agent may cost in a calendar month (UTC); 0: no cap."""
    spend_cap_owner: int = Field(default=0, ge=0)
    """The same of all agents of one person."""
    spend_cap_total: int = Field(default=0, ge=0)
    """The same of all machines, with those of the pool."""
    log_level: str = "INFO"

    @field_validator("default_models", "ssh_hosts", "admin_ids", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("agent_tools", "ssh_key_file", mode="before")
    @classmethod
    def _unset(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("admin_ids")
    @classmethod
    def _are_chats(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if 0 in value:
            raise ValueError("must be Telegram ids; @userinfobot tells yours")
        return value

    @field_validator("telegram_bot_token")
    @classmethod
    def _looks_like_a_token(cls, value: SecretStr) -> SecretStr:
        bot_id, _, rest = value.get_secret_value().partition(":")
        if not bot_id.isdigit() or not rest:
            raise ValueError("is not a bot token (digits, a colon, letters); @BotFather gives one")
        return value

    @field_validator("bot_encryption_key")
    @classmethod
    def _opens(cls, value: SecretStr) -> SecretStr:
        for key in encryption_keys(value):
            try:
                Fernet(key)
            except ValueError:
                raise ValueError("is not a Fernet key; `baal new-key` prints one") from None
        return value

    @field_validator("database_url")
    @classmethod
    def _names_a_database(cls, value: SecretStr) -> SecretStr:
        return SecretStr(_database_url(value.get_secret_value().strip()))

    @field_validator("snapshots_url")
    @classmethod
    def _names_a_store(cls, value: str) -> str:
        return _store_url(value.strip())

    @field_validator("aws_endpoint_url")
    @classmethod
    def _names_a_server(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/\s@?#]+(/[^\s@?#]*)?", value):
            raise ValueError("is not the address of a server; write https://host[:port]")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _can_be_certified(self) -> "Settings":
        if self.agent_tls is TlsName.ACME:
            self._check_names()
            if not EMAIL.fullmatch(self.acme_email):
                raise ValueError("ACME_EMAIL must be an address that the authority of AGENT_TLS=acme may write to")
        return self

    def _check_names(self) -> None:
        """A public authority certifies names that it can look up, and nothing else."""
        if self.provider is ProviderName.LOCAL:
            raise ValueError("AGENT_TLS=acme needs machines with public names; with PROVIDER=local write files")
        if self.provider is ProviderName.HOSTS:
            raise ValueError(
                "AGENT_TLS=acme: a public authority asks at port 443, which several agents of one server cannot "
                "share; write files"
            )

    @property
    def inference_url(self) -> str:
        """OpenAI-compatible base URL, without a slash at its end."""
        return (self.llm_base_url or f"{self.libertai_gateway}/v1").rstrip("/")

    @property
    def thinks_at_libertai(self) -> bool:
        """Whether agents use LibertAI's models, and not those of some other server."""
        return self.inference_url == f"{self.libertai_gateway}/v1"

    @property
    def database(self) -> str:
        """URL of the bot's own database; it may hold a password."""
        return self.database_url.get_secret_value() or f"{SQLITE}:///{self.data_dir.resolve() / 'baal.sqlite'}"

    @property
    def durable_database(self) -> str:
        """URL of the durable engine's database, which is disposable: the same server, or a file of its own."""
        if self.database.startswith(POSTGRES):
            return self.database
        return f"sqlite:///{self.data_dir.resolve() / 'durable.sqlite'}"


def _database_url(text: str) -> str:
    """The URL with the driver that is installed; `ValueError` says what is wrong with it and repeats none of it."""
    if not text:
        return ""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(f"is not a database URL; write {EXAMPLE_URL}") from None
    driver = DRIVERS.get(url.drivername)
    if driver is None:
        raise ValueError(f"names a database or a driver that Baal does not use; write {EXAMPLE_URL}")
    if driver == POSTGRES and not url.database:
        raise ValueError(f"names no database; write {EXAMPLE_URL}")
    if "@" in f"{url.host}{url.database}":
        # Its password would be cut at the @, and the rest taken, and shown, as the host.
        raise ValueError("has an @ too many; write it as %40 in user and password, / as %2F, : as %3A")
    return url.set(drivername=driver).render_as_string(hide_password=False)


def _store_url(text: str) -> str:
    """The URL of a folder or of a bucket; `ValueError` says what is wrong with it and repeats none of it."""
    if not text or re.fullmatch(r"s3://[A-Za-z0-9][A-Za-z0-9._-]+(/[^?#@]*)?|file:///[^?#]+", text):
        return text.rstrip("/")
    if "@" in text:
        raise ValueError("must hold no key; write s3://bucket/prefix, and set AWS_ACCESS_KEY_ID and its secret")
    raise ValueError(
        "is not where snapshots can be kept; write s3://bucket/prefix or file:///folder, or leave it empty"
    )


def encryption_keys(value: SecretStr) -> list[str]:
    """The Fernet keys in a BOT_ENCRYPTION_KEY, the encrypting one first."""
    return [part.strip() for part in value.get_secret_value().split(",")]


def read_settings(**overrides: Any) -> Settings:
    """Read and check; `BadSettings` names each wrong setting in the environment's spelling, never its value."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise BadSettings("\n".join(_complaint(problem) for problem in error.errors(include_input=False))) from None
    except (OSError, UnicodeError) as error:
        raise BadSettings(f".env cannot be read ({type(error).__name__}); let this user read it, as UTF-8") from None


def read_usable_settings() -> tuple[Settings, list[str], set[str]]:
    """Settings with stand-ins for those that cannot be used, what is wrong with these, and their fields.

    `BadSettings` if nothing can be made of them.
    """
    replaced: dict[str, Any] = {}
    complaints: dict[str, None] = {}  # a set in order
    while True:
        try:
            return Settings(**replaced), list(complaints), set(replaced)
        except ValidationError as error:
            problems = error.errors(include_input=False)
        except (OSError, UnicodeError):
            return read_settings(), [], set()
        complaints |= dict.fromkeys(_complaint(each).strip() for each in problems)
        culprits = {name: _stand_in(name) for each in problems if (name := _culprit(each, replaced))}
        if not culprits:
            raise BadSettings("\n".join(complaints))
        replaced |= culprits


def _culprit(problem: Any, replaced: dict[str, Any]) -> str | None:
    """The field to be replaced; where several do not fit together, the first that is named."""
    names = [str(problem["loc"][0])] if problem["loc"] else re.findall(r"[A-Z][A-Z_]+", problem["msg"])
    fields = [name.lower() for name in names if name.lower() in Settings.model_fields]
    return next((name for name in fields if name not in replaced), None)


def _stand_in(name: str) -> Any:
    required = {"telegram_bot_token": "0:none", "bot_encryption_key": Fernet.generate_key().decode()}
    return required.get(name, Settings.model_fields[name].default)


def _complaint(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"]).upper()
    if problem["type"] == "missing":
        return f"{name} is not set. See .env.example."
    return f"{name} {problem['msg'].removeprefix('Value error, ')}".strip()  # what several settings say has no name
