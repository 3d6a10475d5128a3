"""One file a step of a job: each joins the parts that do the work, and knows no other step."""
