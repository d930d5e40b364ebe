from tests.bot.telegram.desk import desk, olga, talking, victor

__all__ = ["desk", "olga", "talking", "victor"]
