//! API keys as rows.

use deadpool_postgres::Transaction;
use tokio_postgres::{Row, Statement};
use tollgate_model::{ApiKey, KeyHash, KeyId, KeyState, SubscriptionId};
use tollgate_store::{VersionedKey, json};

use crate::columns::{Columns, stored};
use crate::failure::{Failure, Worked};

/// Runs an insert or update of a key; both take the same parameters.
pub(crate) async fn execute(
    transaction: &Transaction<'_>,
    statement: &Statement,
    key: &ApiKey,
    version: u64,
) -> Worked<u64> {
    let scopes = key.scopes.as_ref().map(json::to_text).transpose()?;
    let addresses: Vec<String> = key
        .allowed_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let quota = key.quota.as_ref().map(json::quota_to_text).transpose()?;
    let written = transaction
        .execute(
            statement,
            &[
                &key.id.as_str(),
                &key.family.as_str(),
                &key.subscription.as_str(),
                &key.name,
                &&key.hash.0[..],
                &key.prefix,
                &key.last4,
                &key.state.as_str(),
                &key.test,
                &scopes,
                &json::to_text(&addresses)?,
                &json::limits_to_text(&key.limits)?,
                &quota,
                &key.external_id,
                &key.metadata,
                &key.created_at.0,
                &key.expires_at.map(|at| at.0),
                &key.revoked_at.map(|at| at.0),
                &stored(version),
            ],
        )
        .await?;
    Ok(written)
}

/// Reads a row of any query that lists keys.
pub(crate) fn read(row: &Row) -> Worked<VersionedKey> {
    let mut columns = Columns::of(row);
    Ok(VersionedKey {
        key: read_from(&mut columns)?,
        version: columns.number()?,
        last_used_at: columns.optional_time()?,
    })
}

/// Reads the key alone.
pub(crate) fn read_key(row: &Row) -> Worked<ApiKey> {
    read_from(&mut Columns::of(row))
}

fn read_from(columns: &mut Columns<'_>) -> Worked<ApiKey> {
    Ok(ApiKey {
        id: KeyId::new(columns.text()?),
        family: KeyId::new(columns.text()?),
        subscription: SubscriptionId::new(columns.text()?),
        name: columns.text()?.to_owned(),
        hash: KeyHash(columns.digest()?),
        prefix: columns.text()?.to_owned(),
        last4: columns.text()?.to_owned(),
        state: KeyState::parse(columns.text()?).ok_or(Failure::Unreadable("key state"))?,
        test: columns.flag()?,
        scopes: match columns.optional_text()? {
            Some(text) => Some(json::from_text(text, "scopes")?),
            None => None,
        },
        allowed_addresses: json::from_text::<Vec<&str>>(columns.text()?, "addresses")?
            .into_iter()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| Failure::Unreadable("addresses"))?,
        limits: json::limits_from_text(columns.text()?)?,
        quota: match columns.optional_text()? {
            Some(text) => Some(json::quota_from_text(text)?),
            None => None,
        },
        external_id: columns.optional_text()?.map(str::to_owned),
        metadata: columns.text()?.to_owned(),
        created_at: columns.time()?,
        expires_at: columns.optional_time()?,
        revoked_at: columns.optional_time()?,
    })
}
