UPDATE calls SET did = coalesce(did, $3) WHERE id = $1 AND attempt = $2
