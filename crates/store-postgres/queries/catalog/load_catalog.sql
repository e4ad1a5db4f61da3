SELECT kind, id, organization, document, managed, created_at, updated_at
FROM catalog_objects
