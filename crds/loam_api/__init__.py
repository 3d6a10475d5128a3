"""Loam's API: the FineTuneJob, its validation, its plan. Pydantic and the standard library only."""
