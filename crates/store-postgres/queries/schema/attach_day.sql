-- The adapter puts the day in place of /*day*/, and its bounds in place of /*from*/ and /*to*/.
ALTER TABLE usage_records ATTACH PARTITION usage_records_/*day*/
FOR VALUES FROM (/*from*/) TO (/*to*/)
