DELETE FROM catalog_objects WHERE kind = $1 AND id = $2
