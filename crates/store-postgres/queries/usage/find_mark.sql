SELECT next, stream FROM usage_streams WHERE node = $1 AND epoch = $2 AND thread = $3
