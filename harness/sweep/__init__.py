"""`python -m harness.sweep FILE`: trials scheduled by Ray Tune. Only here Ray is imported, once a sweep runs."""
