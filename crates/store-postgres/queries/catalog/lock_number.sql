-- Whoever changes the catalog or a key holds this row until the end of its transaction.
SELECT number FROM catalog FOR UPDATE
