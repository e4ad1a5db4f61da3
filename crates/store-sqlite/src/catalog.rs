//! The catalog's objects, its number, and the audit trail.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use tollgate_model::{Managed, OrganizationId, Timestamp};
use tollgate_store::{
    AuditEntry, CatalogChange, CatalogObject, CatalogStore, Effects, Entity, ObjectChange,
    ObjectKind, StoreErrorKind, StoreResult, StoredCatalog,
};

use crate::SqliteStore;
use crate::calls::mark_done;
use crate::columns::first_count;
use crate::failure::{Failure, Worked};
use crate::queue::Lane;
use crate::sql;

/// The catalog's number as this transaction sees it.
pub(crate) fn read_number(connection: &Connection) -> Worked<u64> {
    let mut statement = connection.prepare_cached(sql::catalog::CATALOG_VERSION)?;
    let number = statement.query_row((), first_count).optional()?;
    number.ok_or(Failure::Unreadable("catalog number"))
}

/// Writes what commits with a change and raises the catalog's number; the answer is the new one.
pub(crate) fn commit_effects(transaction: &Transaction<'_>, effects: &Effects) -> Worked<u64> {
    if let Some(done) = &effects.call {
        mark_done(transaction, done)?;
    }
    let mut add = transaction.prepare_cached(sql::catalog::ADD_AUDIT)?;
    for entry in &effects.audit {
        add.execute((
            entry.at.0,
            &entry.actor,
            &entry.action,
            &entry.subject,
            &entry.detail,
        ))?;
    }
    let mut raise = transaction.prepare_cached(sql::catalog::RAISE_NUMBER)?;
    Ok(raise.query_row((), first_count)?)
}

fn apply(transaction: &Transaction<'_>, change: &ObjectChange) -> Worked<()> {
    match change {
        ObjectChange::Put(object) => {
            let mut put = transaction.prepare_cached(sql::catalog::PUT_OBJECT)?;
            put.execute((
                object.kind.as_str(),
                &object.id,
                object.organization.as_ref().map(OrganizationId::as_str),
                &object.document,
                match object.managed {
                    Managed::File => "file",
                    Managed::Api => "api",
                },
                object.created_at.0,
                object.updated_at.0,
            ))?;
        }
        ObjectChange::Remove { kind, id } => {
            let mut remove = transaction.prepare_cached(sql::catalog::REMOVE_OBJECT)?;
            if remove.execute((kind.as_str(), id))? == 0 {
                return Err(Failure::Refused(
                    StoreErrorKind::NotFound,
                    "there is no such object",
                ));
            }
        }
    }
    Ok(())
}

fn read_object(row: &Row<'_>) -> Worked<CatalogObject> {
    let organization: Option<String> = row.get(2)?;
    Ok(CatalogObject {
        kind: ObjectKind::parse(row.get_ref(0)?.as_str().unwrap_or_default())
            .ok_or(Failure::Unreadable("kind"))?,
        id: row.get(1)?,
        organization: organization.as_deref().map(OrganizationId::new),
        document: row.get(3)?,
        managed: match row.get_ref(4)?.as_str() {
            Ok("file") => Managed::File,
            Ok("api") => Managed::Api,
            _ => return Err(Failure::Unreadable("managed")),
        },
        created_at: Timestamp(row.get(5)?),
        updated_at: Timestamp(row.get(6)?),
    })
}

fn read_audit(row: &Row<'_>) -> Worked<AuditEntry> {
    Ok(AuditEntry {
        at: Timestamp(row.get(0)?),
        actor: row.get(1)?,
        action: row.get(2)?,
        subject: row.get(3)?,
        detail: row.get(4)?,
    })
}

#[async_trait]
impl CatalogStore for SqliteStore {
    async fn load_catalog(&self) -> StoreResult<StoredCatalog> {
        self.read(Entity::Catalog, |connection, _| {
            // One transaction: the number belongs to the objects.
            let transaction = connection.unchecked_transaction()?;
            let version = read_number(&transaction)?;
            let mut statement = transaction.prepare_cached(sql::catalog::LOAD_CATALOG)?;
            let objects = statement
                .query_and_then((), read_object)?
                .collect::<Worked<Vec<CatalogObject>>>()?;
            Ok(StoredCatalog { version, objects })
        })
        .await
    }

    async fn catalog_version(&self) -> StoreResult<u64> {
        self.read(Entity::Catalog, |connection, _| read_number(connection))
            .await
    }

    async fn commit_catalog(&self, change: CatalogChange) -> StoreResult<u64> {
        self.write(Lane::Command, Entity::Catalog, move |transaction| {
            if read_number(transaction)? != change.expected_version {
                return Err(Failure::Refused(
                    StoreErrorKind::Conflict,
                    "the catalog has changed meanwhile",
                ));
            }
            for step in &change.changes {
                apply(transaction, step)?;
            }
            commit_effects(transaction, &change.effects)
        })
        .await
    }

    async fn list_audit(&self, limit: u32) -> StoreResult<Vec<AuditEntry>> {
        self.read(Entity::Catalog, move |connection, _| {
            let mut statement = connection.prepare_cached(sql::catalog::LIST_AUDIT)?;
            statement.query_and_then((limit,), read_audit)?.collect()
        })
        .await
    }
}
