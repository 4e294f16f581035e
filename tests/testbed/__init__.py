"""An emulated grid on one machine: two HTCondor pools, worker nodes and job images, all of them real programs.

`python -m tests.testbed build` prepares the trees and images, `up` starts the grid, `shell HOST` enters a host.
In a test, take the `grid` fixture of `tests.testbed.fixtures`, or open `tests.testbed.grid.Grid(directory)`.
"""
