"""The operating system and what surrounds the pilot."""
