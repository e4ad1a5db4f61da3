//! Lists inside a row, as JSON text: the same in every SQL adapter, so that rows can be copied from
//! one to the other.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use tollgate_model::{By, Every, Label, LimitId, OnExceeded, Per, Quota, RateLimit};

/// What was read is not what an adapter writes; names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable(pub &'static str);

type Read<T> = Result<T, Unreadable>;

#[derive(Serialize, Deserialize)]
struct LimitText {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    max: u32,
    per: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shadow: bool,
}

#[derive(Serialize, Deserialize)]
struct QuotaText {
    units: u64,
    every: String,
    on_exceeded: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_percent: Option<u32>,
}

/// Anything as text.
///
/// # Errors
/// When it has no textual form.
pub fn to_text<T: Serialize + ?Sized>(value: &T) -> Read<String> {
    serde_json::to_string(value).map_err(|_| Unreadable("value"))
}

/// Reads what [`to_text`] wrote; `what` names it in the error.
///
/// # Errors
/// When the text is something else.
pub fn from_text<'t, T: Deserialize<'t>>(text: &'t str, what: &'static str) -> Read<T> {
    serde_json::from_str(text).map_err(|_| Unreadable(what))
}

/// Limits of a key.
///
/// # Errors
/// Never, for limits that hold.
pub fn limits_to_text(limits: &[RateLimit]) -> Read<String> {
    let text = |limit: &RateLimit| LimitText {
        id: limit.id.as_ref().map(|id| id.as_str().to_owned()),
        max: limit.max,
        per: limit.per.as_str().to_owned(),
        by: limit.by.map(|by| by.as_str().to_owned()),
        shadow: limit.shadow,
    };
    to_text(&limits.iter().map(text).collect::<Vec<_>>())
}

/// Reads what [`limits_to_text`] wrote.
///
/// # Errors
/// When the text is something else.
pub fn limits_from_text(text: &str) -> Read<Vec<RateLimit>> {
    let by = |text: &str| By::ALL.into_iter().find(|by| by.as_str() == text);
    from_text::<Vec<LimitText>>(text, "limits")?
        .into_iter()
        .map(|limit| {
            Some(RateLimit {
                id: limit.id.as_deref().map(LimitId::new),
                max: limit.max,
                per: Per::parse(&limit.per)?,
                by: match limit.by {
                    Some(text) => Some(by(&text)?),
                    None => None,
                },
                shadow: limit.shadow,
            })
        })
        .collect::<Option<Vec<RateLimit>>>()
        .ok_or(Unreadable("limits"))
}

/// The quota of a key.
///
/// # Errors
/// Never, for a quota that holds.
pub fn quota_to_text(quota: &Quota) -> Read<String> {
    let (on_exceeded, grace_percent) = match quota.on_exceeded {
        OnExceeded::Block => ("block", None),
        OnExceeded::Warn => ("warn", None),
        OnExceeded::Grace { percent } => ("grace", Some(percent)),
        OnExceeded::Overage => ("overage", None),
    };
    to_text(&QuotaText {
        units: quota.units,
        every: quota.every.as_str().to_owned(),
        on_exceeded: on_exceeded.to_owned(),
        grace_percent,
    })
}

/// Reads what [`quota_to_text`] wrote.
///
/// # Errors
/// When the text is something else.
pub fn quota_from_text(text: &str) -> Read<Quota> {
    let quota: QuotaText = from_text(text, "quota")?;
    let on_exceeded = match (quota.on_exceeded.as_str(), quota.grace_percent) {
        ("block", None) => Some(OnExceeded::Block),
        ("warn", None) => Some(OnExceeded::Warn),
        ("grace", Some(percent)) => Some(OnExceeded::Grace { percent }),
        ("overage", None) => Some(OnExceeded::Overage),
        _ => None,
    };
    match (Every::parse(&quota.every), on_exceeded) {
        (Some(every), Some(on_exceeded)) => Ok(Quota {
            units: quota.units,
            every,
            on_exceeded,
        }),
        _ => Err(Unreadable("quota")),
    }
}

/// Writes labels as an object, in their order; what stood in `text` before is gone.
///
/// # Errors
/// Never, for labels that are text.
pub fn write_labels(labels: &[Label], text: &mut Vec<u8>) -> Read<()> {
    text.clear();
    let mut serializer = serde_json::Serializer::new(text);
    let mut write = || {
        let mut map = serializer.serialize_map(Some(labels.len()))?;
        for label in labels {
            map.serialize_entry(&*label.name, &*label.value)?;
        }
        map.end()
    };
    write().map_err(|_: serde_json::Error| Unreadable("labels"))
}

/// Reads what [`write_labels`] wrote.
///
/// # Errors
/// When the text is something else.
pub fn labels_from_text(text: &str) -> Read<Vec<Label>> {
    from_text(text, "labels").map(|Labels(labels)| labels)
}

/// Labels in the order in which they were written, also where a name comes twice.
struct Labels(Vec<Label>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Labels;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    labels.push(Label {
                        name: name.into(),
                        value: value.into(),
                    });
                }
                Ok(Labels(labels))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quota_and_limit_reads_back_and_strange_text_does_not() {
        for on_exceeded in [
            OnExceeded::Block,
            OnExceeded::Warn,
            OnExceeded::Grace { percent: 1_000 },
            OnExceeded::Overage,
        ] {
            for every in Every::ALL {
                let quota = Quota {
                    units: u64::MAX,
                    every,
                    on_exceeded,
                };
                let text = quota_to_text(&quota).unwrap();
                assert_eq!(quota_from_text(&text).unwrap(), quota);
            }
        }
        for by in By::ALL {
            for per in Per::ALL {
                let limits = [RateLimit {
                    id: None,
                    max: 1,
                    per,
                    by: Some(by),
                    shadow: false,
                }];
                let text = limits_to_text(&limits).unwrap();
                assert_eq!(limits_from_text(&text).unwrap(), limits);
            }
        }
        assert!(limits_from_text(r#"[{"max":1,"per":"fortnight"}]"#).is_err());
        assert!(limits_from_text(r#"[{"max":1,"per":"day","by":"moon"}]"#).is_err());
        assert!(quota_from_text(r#"{"units":1,"every":"day","on_exceeded":"grace"}"#).is_err());
        assert!(labels_from_text("[]").is_err());
    }
}
