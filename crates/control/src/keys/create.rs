//! Makes a key.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tollgate_model::{
    ApiKey, Catalog, KeyId, KeySecret, KeyState, Plan, Subscription, SubscriptionId,
    SubscriptionState, Timestamp,
};
use tollgate_store::{KeyWrite, StoreErrorKind, VersionedKey};

use super::fields::{KeyFields, check_expiry, check_scopes};
use super::{ATTEMPTS, KeyView, audit};
use crate::document::{Document, Field, ProblemCode, Reader, Table};
use crate::{Actor, Control, ControlError, ControlResult};

const ID_CHARACTERS_MAX: usize = 200;

/// A key that was just made.
#[derive(Debug, Clone)]
pub struct CreatedKey {
    /// The key.
    pub view: KeyView,
    /// Its secret, shown here and never again.
    pub secret: KeySecret,
}

impl CreatedKey {
    /// The key's fields, and `key`: the secret.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut document = self.view.to_json();
        if let Some(fields) = document.as_object_mut() {
            fields.insert("key".to_owned(), json!(self.secret.reveal()));
        }
        document
    }
}

/// What a caller asks for.
struct NewKey {
    owner: Owner,
    fields: KeyFields,
    test: bool,
}

/// How the subscription is named.
enum Owner {
    Subscription(String),
    /// The older `userId`: a subscription, or an organization that has only one.
    User(String),
}

impl Control {
    /// Makes a key for a subscription.
    ///
    /// # Errors
    /// `Invalid` with every problem; `NotFound` for the subscription; `Impossible` for scopes
    /// that the plan does not grant, more keys than it allows, or a cancelled subscription;
    /// `Store`.
    pub async fn create_key(
        &self,
        input: &Json,
        actor: impl Into<Actor>,
    ) -> ControlResult<CreatedKey> {
        let actor = actor.into();
        let new = read(input)?;
        let mut state = self.lock().await;
        let now = self.now();
        check_expiry(new.fields.expires_at, now)?;
        let catalog = state.catalog();
        let id = match &new.owner {
            Owner::Subscription(id) => SubscriptionId::new(id),
            Owner::User(id) => resolve_subscription(catalog, id)?,
        };
        let (subscription, plan) = find_owner(catalog, &id)?;
        if subscription.state == SubscriptionState::Cancelled {
            let what = format!("subscription \"{id}\" is cancelled");
            return Err(ControlError::Impossible(what));
        }
        if let Some(scopes) = &new.fields.scopes {
            check_scopes(&plan, scopes)?;
        }
        let prefix = find_prefix(catalog, &subscription)?;
        for _ in 0..ATTEMPTS {
            let secret = KeySecret::generate(&prefix, new.test, self.ids());
            let key = self.assemble(&new, &subscription, &prefix, &secret, now);
            let row = VersionedKey {
                key: key.clone(),
                version: 1,
                last_used_at: None,
            };
            let view = KeyView::new(row, state.catalog());
            let write = KeyWrite {
                effects: audit(now, &actor, "key.create", &key, &view.to_json()),
                key,
                expected_version: 0,
                live_keys_max: plan.keys_max,
            };
            match self.write_key(&mut state, write).await {
                Ok(true) => return Ok(CreatedKey { view, secret }),
                Ok(false) => return Err(too_many_keys(&plan)),
                // Another key has this id or secret: draw again.
                Err(ControlError::Store(error)) if error.kind == StoreErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let what = "no unused key could be drawn; the source of randomness is broken";
        Err(ControlError::Conflict(what.to_owned()))
    }

    fn assemble(
        &self,
        new: &NewKey,
        subscription: &Subscription,
        prefix: &str,
        secret: &KeySecret,
        now: Timestamp,
    ) -> ApiKey {
        let id = KeyId::made(self.ids().uuid(now));
        let fields = new.fields.clone();
        ApiKey {
            family: id.clone(),
            id,
            subscription: subscription.id.clone(),
            name: fields.name,
            hash: self.pepper().hash(secret.reveal().as_bytes()),
            prefix: if new.test {
                format!("{prefix}_test")
            } else {
                prefix.to_owned()
            },
            last4: secret.last4().to_owned(),
            state: KeyState::Active,
            test: new.test,
            scopes: fields.scopes,
            allowed_addresses: fields.allowed_addresses,
            limits: fields.limits,
            quota: fields.quota,
            external_id: fields.external_id,
            metadata: fields.metadata,
            created_at: now,
            expires_at: fields.expires_at,
            revoked_at: None,
        }
    }

    /// The subscription that an older caller's `userId` means: the one of this id, or the only
    /// one of the organization of this id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn resolve_subscription(&self, id: &str) -> ControlResult<SubscriptionId> {
        resolve_subscription(&self.catalog(), id)
    }
}

fn too_many_keys(plan: &Plan) -> ControlError {
    let max = plan.keys_max.unwrap_or(0);
    ControlError::Impossible(format!(
        "plan \"{}\" allows {max} live keys, and there are as many; revoke one first",
        plan.id
    ))
}

fn read(input: &Json) -> ControlResult<NewKey> {
    let document = Document::from_json(input);
    let reader = Reader::new(&document);
    let new = reader.root().table(|table| {
        let owner = read_owner(table);
        let fields = KeyFields::read(table, input);
        let test = match table.optional("test") {
            Some(field) => field.boolean(),
            None => Some(false),
        };
        Some(NewKey {
            owner: owner?,
            fields: fields?,
            test: test?,
        })
    });
    reader.finish(new).map_err(ControlError::Invalid)
}

fn read_owner(table: &Table<'_>) -> Option<Owner> {
    let id = |field: Field<'_>| field.short_text(ID_CHARACTERS_MAX).map(str::to_owned);
    let Some(user) = table.optional("user_id") else {
        let subscription = table.required("subscription_id")?;
        return id(subscription).map(Owner::Subscription);
    };
    if table.optional("subscription_id").is_some() {
        let detail = "says the same as subscription_id; leave one out";
        user.problem(ProblemCode::Duplicate, detail);
        return None;
    }
    id(user).map(Owner::User)
}

fn resolve_subscription(catalog: &Catalog, id: &str) -> ControlResult<SubscriptionId> {
    if let Some((id, _)) = catalog.subscriptions.get_key_value(id) {
        return Ok(id.clone());
    }
    let of_it = |subscription: &&Arc<Subscription>| subscription.organization.as_str() == id;
    let mut owned = catalog.subscriptions.values().filter(of_it);
    match (owned.next(), owned.next()) {
        (Some(only), None) => Ok(only.id.clone()),
        _ => Err(ControlError::not_found("subscription", id)),
    }
}

fn find_owner(
    catalog: &Catalog,
    id: &SubscriptionId,
) -> ControlResult<(Arc<Subscription>, Arc<Plan>)> {
    let subscription = catalog.subscriptions.get(id);
    let subscription =
        subscription.ok_or_else(|| ControlError::not_found("subscription", id.as_str()))?;
    let plan = catalog
        .find_plan_of(subscription)
        .ok_or_else(|| ControlError::not_found("plan", subscription.plan.as_str()))?;
    Ok((Arc::clone(subscription), Arc::clone(plan)))
}

/// Keys begin with the prefix of the subscription's first API.
fn find_prefix(catalog: &Catalog, subscription: &Subscription) -> ControlResult<String> {
    let first = subscription.apis.first();
    first
        .and_then(|id| catalog.apis.get(id))
        .map(|api| api.key_prefix.clone())
        .ok_or_else(|| ControlError::not_found("api", first.map_or("", |id| id.as_str())))
}
