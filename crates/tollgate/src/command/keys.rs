//! `tollgate keys`: API keys through the platform.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::{KeyCreateArgs, KeysCommand};
use crate::client::{Body, Platform};
use crate::output;

/// Runs the command.
///
/// # Errors
/// When the platform refuses or cannot be reached.
pub async fn run(command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create(args) => create(args).await,
        KeysCommand::List {
            subscription,
            limit,
            cursor,
            platform,
        } => {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(subscription.map(|id| ("subscription_id", id)));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let list = Platform::from_args(&platform)?
                .get("/api/v1/keys", &query)
                .await?;
            if platform.json {
                output::json(&list)
            } else {
                print_list(&list)
            }
        }
        KeysCommand::Show { id, platform } => {
            let key = Platform::from_args(&platform)?
                .get(&path(&id)?, &[])
                .await?;
            if platform.json {
                output::json(&key)
            } else {
                print_one(&key)
            }
        }
        KeysCommand::Revoke { id, platform } => {
            let client = Platform::from_args(&platform)?;
            client
                .send(Method::DELETE, &path(&id)?, &[], Body::Empty)
                .await?;
            if platform.json {
                return output::json(&json!({ "id": id, "state": "revoked" }));
            }
            output::line(format!("{id} is revoked: gateways refuse it from now on."))
        }
    }
}

fn path(id: &str) -> anyhow::Result<String> {
    let plain = !id.is_empty()
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    anyhow::ensure!(
        plain,
        "{id:?} is not a key's id; `tollgate keys list` shows them"
    );
    Ok(format!("/api/v1/keys/{id}"))
}

async fn create(args: KeyCreateArgs) -> anyhow::Result<()> {
    let mut body = json!({ "subscription_id": args.subscription, "name": args.name });
    let fields = [
        (
            "scopes",
            (!args.scopes.is_empty()).then(|| json!(args.scopes)),
        ),
        ("expires_at", args.expires_at.map(Value::from)),
        (
            "allowed_addresses",
            (!args.allowed_addresses.is_empty()).then(|| json!(args.allowed_addresses)),
        ),
        ("test", args.test.then_some(json!(true))),
        ("external_id", args.external_id.map(Value::from)),
    ];
    if let Some(object) = body.as_object_mut() {
        for (name, value) in fields {
            object.extend(value.map(|value| (name.to_owned(), value)));
        }
    }
    let client = Platform::from_args(&args.platform)?;
    let key = client
        .send(Method::POST, "/api/v1/keys", &[], Body::Json(body))
        .await?;
    if args.platform.json {
        return output::json(&key);
    }
    output::line(output::plain(output::at(&key, "key")))?;
    output::note(format!(
        "This is the only time the key is shown. Its id is {}.",
        output::plain(output::at(&key, "id"))
    ));
    Ok(())
}

fn print_list(list: &Value) -> anyhow::Result<()> {
    let empty = Vec::new();
    let items = output::at(list, "items").as_array().unwrap_or(&empty);
    if items.is_empty() {
        return output::line(
            "No keys. `tollgate keys create --subscription ID --name NAME` makes one.",
        );
    }
    let columns = [
        "id",
        "name",
        "subscription_id",
        "state",
        "usage.today",
        "usage.period",
        "last_used_at",
    ];
    let rows = items
        .iter()
        .map(|key| {
            let mut row = output::row(key, &columns);
            let shown = format!(
                "{}_…{}",
                output::plain(output::at(key, "prefix")),
                output::plain(output::at(key, "last4"))
            );
            row.insert(1, shown);
            row
        })
        .collect();
    output::table(
        &[
            "id",
            "key",
            "name",
            "subscription",
            "state",
            ">today",
            ">period",
            "last used",
        ],
        rows,
    )?;
    if let Some(cursor) = output::at(list, "next_cursor").as_str() {
        output::note(format!("There are more: --cursor {cursor}"));
    }
    Ok(())
}

fn print_one(key: &Value) -> anyhow::Result<()> {
    let rows = key
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| vec![name.clone(), output::plain(value)])
        .collect();
    output::table(&["field", "value"], rows)
}
