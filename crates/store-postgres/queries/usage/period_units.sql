SELECT units FROM usage_periods WHERE scope = $1 AND id = $2 AND start = $3
