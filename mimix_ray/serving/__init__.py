"""A request to an mp4: a durable job store, an API of the OpenAI videos shape, and generator replicas on Ray Serve."""
