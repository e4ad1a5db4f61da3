-- Made apart and attached, which holds up neither readers nor writers of other days. The adapter
-- puts the day in place of /*day*/.
CREATE TABLE usage_records_/*day*/ (LIKE usage_records INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
