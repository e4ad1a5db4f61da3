SELECT number FROM catalog
