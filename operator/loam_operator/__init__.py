"""Loam's operator: watches FineTuneJobs and runs each as KubeRay RayJobs."""
