"""Pictures: their common style, and those of several rounds."""
