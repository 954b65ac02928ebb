"""The pages of `docs/reference`, written from the code: one place where each fact is made."""
