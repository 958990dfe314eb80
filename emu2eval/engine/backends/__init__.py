"""Where a model is asked: in this process, or as replicas in others. The engine knows only `base.Backend`."""
