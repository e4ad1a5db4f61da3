INSERT INTO catalog_objects (kind, id, organization, document, managed, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (kind, id) DO UPDATE SET
    organization = excluded.organization,
    document = excluded.document,
    managed = excluded.managed,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at
