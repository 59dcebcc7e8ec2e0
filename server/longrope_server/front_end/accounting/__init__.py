"""What each request took, on record: the usage ledger, the request log and the trace."""
