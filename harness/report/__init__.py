"""What a sweep found: read, compared, written as tables, pictures and one page."""
