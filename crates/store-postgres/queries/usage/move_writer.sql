UPDATE usage_writer SET turn = turn + 1, place = $1, bucket = $2 RETURNING turn
