"""Write and read versioned JSON documents: the plan file and the live-state file."""
