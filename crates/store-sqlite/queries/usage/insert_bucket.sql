INSERT INTO usage_buckets (
    grain, family, start, api, organization, subscription, plan, dimension, test
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
