"""Images and labels: decoded once, split by seed, labels behind an oracle that counts them."""
