"""The admin side of a gateway: its socket, its documents, its state folder."""
