"""A shared directory of the site for jobs."""
