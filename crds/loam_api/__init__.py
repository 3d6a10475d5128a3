"""Loam's API: the FineTuneJob, its validation, its plan. Imports pydantic and the standard library only."""
