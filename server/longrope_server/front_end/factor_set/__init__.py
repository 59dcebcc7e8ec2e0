"""Which factor sets served a request, and how its answer says so."""
