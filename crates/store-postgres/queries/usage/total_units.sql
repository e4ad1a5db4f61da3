SELECT units FROM usage_scope_totals WHERE scope = $1 AND id = $2
