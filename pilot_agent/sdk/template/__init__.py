"""The plugin that `pilot-agent plugin new` writes: the files beside this one, with the plugin's own names in them.

They are not modules of this package: each ends in ``.in``, and ``@NAME@`` and its like are filled in.
"""
