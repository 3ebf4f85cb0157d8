"""The main job, to be watched: sample gateway traffic through a collector into the sandbox."""
