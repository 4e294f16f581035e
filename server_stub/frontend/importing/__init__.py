"""Frontends made of what others' configurations say."""
