DELETE FROM keys WHERE subscription = $1
