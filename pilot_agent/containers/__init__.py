"""Containers: what VO and site agreed on, which runtime and which images the node can really use."""
