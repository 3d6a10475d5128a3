"""What runs inside the Ray cluster, and on a laptop: the pipeline and the `loam` command."""

# Part of every run's key: raised whenever the same job would come out differently.
RUNTIME_VERSION = "1"
