"""A frontend: looks at the jobs that wait and at the pilots there are, and says how many pilots each entry should get.

What decides is pure: a ``cycle.Snapshot`` of access points, pool and entries goes in, a ``cycle.Decision`` comes out.
Reading the pool, talking to a factory and simulating both are others' work, on either side of it.
"""
