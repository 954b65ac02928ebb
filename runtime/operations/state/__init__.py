"""The state folder and the library: backups, their drills, a ledger put back, what is unused."""
