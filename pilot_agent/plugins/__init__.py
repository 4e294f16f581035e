"""The built-in plugins: thin; they connect hooks to the packages that do the work."""
