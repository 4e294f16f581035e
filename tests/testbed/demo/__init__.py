"""The demonstration: a factory, two pilots and eight user jobs on the emulated grid, and an account of all of it."""
