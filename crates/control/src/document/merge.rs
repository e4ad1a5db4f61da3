//! JSON merge patch (RFC 7396) over documents whose fields we know.

use serde_json::{Map, Value as Json};

use super::{Problem, ProblemCode, snake_case};

/// Deepest patch that is followed.
const DEPTH_MAX: usize = 32;

/// The document with the patch merged in: null takes a field away, tables merge, all else
/// replaces. A field may be spelled in camelCase. Fields of `fixed` may be repeated as they are
/// (callers send back what they got) but not changed; they are left out of the answer.
///
/// # Errors
/// A patch that is no table, and every fixed field that it would change.
pub(crate) fn merge_patch(
    current: &Map<String, Json>,
    patch: &Json,
    fixed: &[&str],
) -> Result<Json, Vec<Problem>> {
    let Json::Object(patch) = patch else {
        let detail = "expected a table of the fields to change";
        return Err(vec![Problem::new("", ProblemCode::WrongType, detail)]);
    };
    let mut problems = Vec::new();
    for (written, value) in patch {
        let name = spelling_in(current, written);
        let same = current.get(&name).unwrap_or(&Json::Null) == value;
        if fixed.contains(&name.as_str()) && !same {
            let detail = "cannot be changed";
            problems.push(Problem::new(written, ProblemCode::Invalid, detail));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut merged = current.clone();
    merge(&mut merged, patch, DEPTH_MAX);
    for name in fixed {
        merged.remove(*name);
    }
    Ok(Json::Object(merged))
}

fn merge(target: &mut Map<String, Json>, patch: &Map<String, Json>, depth: usize) {
    for (written, value) in patch {
        let name = spelling_in(target, written);
        match value {
            Json::Null => {
                target.remove(&name);
            }
            Json::Object(fields) if depth > 0 => {
                let slot = target.entry(name).or_insert(Json::Null);
                if !slot.is_object() {
                    *slot = Json::Object(Map::new());
                }
                if let Json::Object(inner) = slot {
                    merge(inner, fields, depth - 1);
                }
            }
            other => {
                target.insert(name, other.clone());
            }
        }
    }
}

/// The name under which the field is there already, or as written.
fn spelling_in(target: &Map<String, Json>, written: &str) -> String {
    let snake = snake_case(written);
    if !target.contains_key(written) && target.contains_key(&snake) {
        snake
    } else {
        written.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(current: Json, patch: Json) -> Json {
        merge_patch(current.as_object().unwrap(), &patch, &["id"]).unwrap()
    }

    #[test]
    fn null_removes_tables_merge_and_the_rest_replaces() {
        let current =
            json!({"id": "a", "quota": {"units": 1, "every": "day"}, "limits": [1], "x": 1});
        let patch = json!({"id": "a", "quota": {"units": 2}, "limits": [2, 3], "x": null});
        assert_eq!(
            merged(current, patch),
            json!({"quota": {"units": 2, "every": "day"}, "limits": [2, 3]})
        );
        let current = json!({"quota": null});
        assert_eq!(
            merged(current, json!({"quota": {"units": 2, "every": null}})),
            json!({"quota": {"units": 2}})
        );
    }

    #[test]
    fn camel_case_means_the_field_that_is_there() {
        let current = json!({"quota": {"on_exceeded": "block"}});
        assert_eq!(
            merged(current, json!({"quota": {"onExceeded": "warn"}})),
            json!({"quota": {"on_exceeded": "warn"}})
        );
    }

    #[test]
    fn fixed_fields_are_told_when_they_would_change() {
        let current = json!({"id": "a"});
        let problems = merge_patch(current.as_object().unwrap(), &json!({"id": "b"}), &["id"]);
        assert_eq!(problems.unwrap_err()[0].field, "id");
        assert!(merge_patch(&Map::new(), &json!([]), &[]).is_err());
    }
}
