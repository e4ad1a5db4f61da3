COPY usage_buckets (
    bucket, grain, family, start, api, organization, subscription, plan, dimension, test
) FROM STDIN BINARY
