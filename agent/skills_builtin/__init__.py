"""Skills that every agent brings along, each a folder with a SKILL.md."""
