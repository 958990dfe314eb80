"""What every model that runs on this machine needs: files, weights, features, keys and values, search."""
