"""Tarballs that somebody published for pilots: their index, where they come from, how they are kept and unpacked."""
