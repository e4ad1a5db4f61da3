-- Where a slice of ?6 records ends: walks one index and reads no record. Bounds and replacements
-- as in list_records.
SELECT r.at, r.n
FROM usage_records r
WHERE r.at >= ?1 AND r.at <= ?3
    AND (r.at, r.n) > (?1, ?2) AND (r.at, r.n) < (?3, ?4)
    /*path*/
ORDER BY r.at /*direction*/, r.n /*direction*/
LIMIT 1 OFFSET ?6
