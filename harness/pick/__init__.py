"""Back to the desk: which images of one's own to label next, and what came back."""
