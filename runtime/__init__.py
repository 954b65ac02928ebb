"""Does. All effects live here: HTTP to servers, processes, gateway, ledger, library."""
