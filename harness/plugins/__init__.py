"""Plugins: found by name, built with their hyper-parameters, given weights. It knows the contracts, no method."""
