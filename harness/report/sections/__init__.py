"""The sections of the report page, in the order in which they are read."""
