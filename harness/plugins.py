"""From a plugin's name to its class: built-ins, entry points, `module:Class`.

`python -m harness.plugins [--json]` lists every plugin with its provider, hyper-parameters and defaults.
"""
