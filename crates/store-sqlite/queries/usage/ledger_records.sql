SELECT n, outcome, units, count FROM usage_records
WHERE n > ?1 AND n <= ?2
ORDER BY n LIMIT ?3
