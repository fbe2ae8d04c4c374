"""The ledger: what has happened, who holds what, what was printed. One SQLite database and a folder of logs."""
