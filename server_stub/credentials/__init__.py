"""Secrets that a frontend gives its pilots: made, sealed for one factory, opened there when they are needed."""
