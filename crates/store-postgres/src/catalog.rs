//! The catalog's objects, its number, and the audit trail.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;
use tollgate_model::{Managed, OrganizationId};
use tollgate_store::{
    AuditEntry, CatalogChange, CatalogObject, CatalogStore, Effects, Entity, ObjectChange,
    ObjectKind, StoreErrorKind, StoreResult, StoredCatalog,
};

use crate::PostgresStore;
use crate::calls::mark_done;
use crate::columns::{Columns, first_count};
use crate::failure::{Failure, Worked};
use crate::sql;

/// The catalog's number.
async fn read_number(client: &impl GenericClient) -> Worked<u64> {
    let read = client.prepare_cached(sql::catalog::CATALOG_VERSION).await?;
    let row = client.query_opt(&read, &[]).await?;
    first_count(&row.ok_or(Failure::Unreadable("catalog number"))?)
}

/// The catalog's number, which nobody else changes before the end of the transaction.
pub(crate) async fn lock_number(transaction: &Transaction<'_>) -> Worked<u64> {
    let lock = transaction
        .prepare_cached(sql::catalog::LOCK_NUMBER)
        .await?;
    let row = transaction.query_opt(&lock, &[]).await?;
    first_count(&row.ok_or(Failure::Unreadable("catalog number"))?)
}

/// Writes what commits with a change and raises the catalog's number, which the transaction has
/// locked; the answer is the new one.
pub(crate) async fn commit_effects(
    transaction: &Transaction<'_>,
    effects: &Effects,
) -> Worked<u64> {
    if let Some(done) = &effects.call {
        mark_done(transaction, done).await?;
    }
    let add = transaction.prepare_cached(sql::catalog::ADD_AUDIT).await?;
    for entry in &effects.audit {
        transaction
            .execute(
                &add,
                &[
                    &entry.at.0,
                    &entry.actor,
                    &entry.action,
                    &entry.subject,
                    &entry.detail,
                ],
            )
            .await?;
    }
    let raise = transaction
        .prepare_cached(sql::catalog::RAISE_NUMBER)
        .await?;
    first_count(&transaction.query_one(&raise, &[]).await?)
}

async fn apply(transaction: &Transaction<'_>, change: &ObjectChange) -> Worked<()> {
    match change {
        ObjectChange::Put(object) => {
            let put = transaction.prepare_cached(sql::catalog::PUT_OBJECT).await?;
            let managed = match object.managed {
                Managed::File => "file",
                Managed::Api => "api",
            };
            transaction
                .execute(
                    &put,
                    &[
                        &object.kind.as_str(),
                        &object.id,
                        &object.organization.as_ref().map(OrganizationId::as_str),
                        &object.document,
                        &managed,
                        &object.created_at.0,
                        &object.updated_at.0,
                    ],
                )
                .await?;
        }
        ObjectChange::Remove { kind, id } => {
            let remove = transaction
                .prepare_cached(sql::catalog::REMOVE_OBJECT)
                .await?;
            if transaction.execute(&remove, &[&kind.as_str(), id]).await? == 0 {
                return Err(Failure::Refused(
                    StoreErrorKind::NotFound,
                    "there is no such object",
                ));
            }
        }
    }
    Ok(())
}

fn read_object(row: &Row) -> Worked<CatalogObject> {
    let mut columns = Columns::of(row);
    Ok(CatalogObject {
        kind: ObjectKind::parse(columns.text()?).ok_or(Failure::Unreadable("kind"))?,
        id: columns.text()?.to_owned(),
        organization: columns.optional_text()?.map(OrganizationId::new),
        document: columns.text()?.to_owned(),
        managed: match columns.text()? {
            "file" => Managed::File,
            "api" => Managed::Api,
            _ => return Err(Failure::Unreadable("managed")),
        },
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

fn read_audit(row: &Row) -> Worked<AuditEntry> {
    let mut columns = Columns::of(row);
    Ok(AuditEntry {
        at: columns.time()?,
        actor: columns.text()?.to_owned(),
        action: columns.text()?.to_owned(),
        subject: columns.text()?.to_owned(),
        detail: columns.text()?.to_owned(),
    })
}

async fn commit(transaction: &Transaction<'_>, change: &CatalogChange) -> Worked<u64> {
    if lock_number(transaction).await? != change.expected_version {
        return Err(Failure::Refused(
            StoreErrorKind::Conflict,
            "the catalog has changed meanwhile",
        ));
    }
    for step in &change.changes {
        apply(transaction, step).await?;
    }
    commit_effects(transaction, &change.effects).await
}

#[async_trait]
impl CatalogStore for PostgresStore {
    async fn load_catalog(&self) -> StoreResult<StoredCatalog> {
        // Together: the number belongs to the objects.
        self.read_together(Entity::Catalog, |transaction| {
            Box::pin(async move {
                let version = read_number(transaction).await?;
                let load = transaction
                    .prepare_cached(sql::catalog::LOAD_CATALOG)
                    .await?;
                let rows = transaction.query(&load, &[]).await?;
                let objects = rows.iter().map(read_object).collect::<Worked<_>>()?;
                Ok(StoredCatalog { version, objects })
            })
        })
        .await
    }

    async fn catalog_version(&self) -> StoreResult<u64> {
        self.read(Entity::Catalog, |client| {
            Box::pin(async move { read_number(client).await })
        })
        .await
    }

    async fn commit_catalog(&self, change: CatalogChange) -> StoreResult<u64> {
        let change = Arc::new(change);
        self.write(Entity::Catalog, move |transaction| {
            let change = Arc::clone(&change);
            Box::pin(async move { commit(transaction, &change).await })
        })
        .await
    }

    async fn list_audit(&self, limit: u32) -> StoreResult<Vec<AuditEntry>> {
        self.read(Entity::Catalog, move |client| {
            Box::pin(async move {
                let list = client.prepare_cached(sql::catalog::LIST_AUDIT).await?;
                let rows = client.query(&list, &[&i64::from(limit)]).await?;
                rows.iter().map(read_audit).collect()
            })
        })
        .await
    }
}
