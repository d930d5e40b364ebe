"""Whether the settings are right, each by itself and together."""

from bot.doctor.findings import Finding, Mark
from bot.settings import EngineName, ProviderName, Settings

NAME = "settings"


def findings(settings: Settings, wrong: list[str]) -> list[Finding]:
    """A line for each that is wrong, else one for all."""
    complaints = [*wrong, *_together(settings)]
    if complaints:
        return [Finding(Mark.WRONG, NAME, each) for each in complaints]
    return [Finding(Mark.WELL, NAME, f"PROVIDER={settings.provider}, ENGINE={settings.engine}")]


def _together(settings: Settings) -> list[str]:
    """What is right by itself and does not fit the rest."""
    provider = settings.provider
    if provider is not ProviderName.LOCAL and settings.engine is not EngineName.DOCKER:
        return [f"PROVIDER={provider} runs agents in containers: set ENGINE=docker"]
    return []
