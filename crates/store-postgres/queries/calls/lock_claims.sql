-- One claim at a time: two of them may name a call that is not there yet.
SELECT pg_advisory_xact_lock(1953525857, 1)
