"""What a sweep leaves behind, and how it is read again: rows, files of trials, names, environment."""
