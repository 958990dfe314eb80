"""Images and texts to vectors, and the cache that keeps them."""
