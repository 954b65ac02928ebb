"""The routing table: as a document, checked, and asked for the version that answers."""
