SELECT of, did, status, content_type, location, body FROM calls WHERE id = ?1
