"""From YAML to frozen dataclasses: a trial, a recipe, a search space, a plan. It runs nothing."""
