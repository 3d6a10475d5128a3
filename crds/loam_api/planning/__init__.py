"""Pure arithmetic of a job: method, schedule, memory, time and cost. Standard library only."""
