DELETE FROM calls WHERE id = $1 AND attempt = $2 AND did IS NULL
