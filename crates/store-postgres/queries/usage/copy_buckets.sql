COPY usage_buckets (
    bucket, name, grain, family, start, api, organization, subscription, plan, dimension, test
) FROM STDIN BINARY
