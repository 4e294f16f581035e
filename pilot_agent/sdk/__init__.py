"""What plugin authors work with: distributions, rehearsals on recorded nodes, templates. No pilot imports it."""
