"""Where a head pod is asked for its metrics: the operator declares it, the runtime serves it."""

from __future__ import annotations

METRICS_PORT = 8090
METRICS_PORT_NAME = "loam-metrics"  # "metrics" is Ray's own, which KubeRay adds
