"""Built-in ssl methods, one file each."""
