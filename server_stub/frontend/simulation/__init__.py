"""A frontend over simulated sites, jobs and time: its real decisions, and what they would have cost."""
