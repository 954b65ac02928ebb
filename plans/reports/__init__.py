"""Report the state and the past of a fleet: a document for programs, text for people."""
