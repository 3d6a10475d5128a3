"""A job, or its whole namespace, is deleted in each of its phases, by a user who does not ask first.

The test plays KubeRay and the pods; the garbage collector and the namespaces' end are real.
"""

from __future__ import annotations
