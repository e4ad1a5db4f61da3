UPDATE calls SET status = $2, content_type = $3, location = $4, body = $5, body_bytes = $6
WHERE id = $1
