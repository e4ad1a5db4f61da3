SELECT scope, id, start, units FROM usage_periods WHERE start >= $1
