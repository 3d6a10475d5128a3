"""One file a step of a job: each joins the parts that do the work with what earlier steps left."""
