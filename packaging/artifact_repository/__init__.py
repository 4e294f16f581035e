"""A repository of artifacts as The Update Framework describes it: keys, roles, what they sign, what is published."""
