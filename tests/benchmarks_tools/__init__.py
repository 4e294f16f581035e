"""Tests of the arithmetic behind the project's measurements."""
