//! The tree of values that TOML and JSON are turned into.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Problem, ProblemCode};

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// JSON's null: the same as a field left out.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number, as written.
    Number(String),
    /// Text.
    Text(String),
    /// A TOML date or time, as written.
    Date(String),
    /// Values in order.
    Array(Vec<Node>),
    /// Named values.
    Table(Vec<Entry>),
    /// From an environment variable, which has no types: the text itself, and what it would be
    /// as TOML.
    Override {
        /// As it stands in the variable.
        text: String,
        /// Read as a TOML value, where it is one.
        read: Box<Node>,
    },
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins, if the text told.
    pub at: Option<Position>,
}

/// A named value of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name as written.
    pub name: String,
    /// Where the name stands.
    pub at: Option<Position>,
    /// The value.
    pub node: Node,
}

/// A whole document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub(super) root: Node,
    /// Whether `pathPrefix` is read as `path_prefix`: in JSON it is.
    pub(super) camel_case: bool,
}

impl Document {
    /// Reads TOML.
    ///
    /// # Errors
    /// Every mistake of syntax. What the fields mean is not looked at then, because half a tree
    /// would only be good for misleading problems.
    pub fn from_toml(text: &str) -> Result<Self, Vec<Problem>> {
        let lines = Lines::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            let root = Node {
                value: toml_table(table.get_ref(), &lines),
                at: Some(Position { line: 1, column: 1 }),
            };
            return Ok(Self {
                root,
                camel_case: false,
            });
        }
        let problem = |error: &toml::de::Error| {
            let at = error.span().map(|span| lines.position(span.start));
            let code = if error.message().starts_with("duplicate key") {
                ProblemCode::Duplicate
            } else {
                ProblemCode::Invalid
            };
            Problem {
                line: at.map(|at| at.line),
                column: at.map(|at| at.column),
                ..Problem::new("", code, error.message())
            }
        };
        Err(errors.iter().map(problem).collect())
    }

    /// Takes JSON. Field names may be spelled in camelCase.
    #[must_use]
    pub fn from_json(value: &serde_json::Value) -> Self {
        Self {
            root: json_node(value),
            camel_case: true,
        }
    }

    /// Sets a field from outside the text, as environment variables do; tables on the way are
    /// made where they are missing. The text is read as the field's type asks for.
    pub fn set_override(&mut self, path: &[&str], text: &str) {
        let read = format!("value = {text}");
        let read = match Self::from_toml(&read) {
            Ok(document) => match document.root.value {
                Value::Table(entries) if entries.len() == 1 => {
                    entries.into_iter().next().map(|entry| entry.node)
                }
                _ => None,
            },
            Err(_) => None,
        };
        let read = strip_positions(read.unwrap_or(Node {
            value: Value::Text(text.to_owned()),
            at: None,
        }));
        let node = Node {
            value: Value::Override {
                text: text.to_owned(),
                read: Box::new(read),
            },
            at: None,
        };
        set(&mut self.root, path, node);
    }
}

fn set(node: &mut Node, path: &[&str], value: Node) {
    let Some((name, rest)) = path.split_first() else {
        *node = value;
        return;
    };
    if !matches!(node.value, Value::Table(_)) {
        node.value = Value::Table(Vec::new());
    }
    let Value::Table(entries) = &mut node.value else {
        return;
    };
    if let Some(entry) = entries.iter_mut().find(|entry| entry.name == *name) {
        return set(&mut entry.node, rest, value);
    }
    let mut made = Node {
        value: Value::Table(Vec::new()),
        at: None,
    };
    set(&mut made, rest, value);
    entries.push(Entry {
        name: (*name).to_owned(),
        at: None,
        node: made,
    });
}

/// Positions inside an environment variable would be taken for positions in the file.
fn strip_positions(mut node: Node) -> Node {
    node.at = None;
    node.value = match node.value {
        Value::Array(items) => Value::Array(items.into_iter().map(strip_positions).collect()),
        Value::Table(entries) => Value::Table(
            entries
                .into_iter()
                .map(|entry| Entry {
                    at: None,
                    node: strip_positions(entry.node),
                    ..entry
                })
                .collect(),
        ),
        other => other,
    };
    node
}

fn toml_node(value: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Node {
    let tree = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Number(number.to_string()), Value::Integer),
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| toml_node(item, lines)).collect())
        }
        DeValue::Table(table) => toml_table(table, lines),
    };
    Node {
        value: tree,
        at: Some(lines.position(value.span().start)),
    }
}

fn toml_table(table: &DeTable<'_>, lines: &Lines<'_>) -> Value {
    let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &Spanned<std::borrow::Cow<'_, str>> = name;
        Entry {
            name: name.get_ref().to_string(),
            at: Some(lines.position(name.span().start)),
            node: toml_node(value, lines),
        }
    };
    Value::Table(table.iter().map(entry).collect())
}

fn json_node(value: &serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => {
            let whole = number.as_i64().map(i128::from);
            match whole.or_else(|| number.as_u64().map(i128::from)) {
                Some(whole) => Value::Integer(whole),
                None => Value::Number(number.to_string()),
            }
        }
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(json_node).collect()),
        Json::Object(fields) => {
            let entry = |(name, value): (&String, &Json)| Entry {
                name: name.clone(),
                at: None,
                node: json_node(value),
            };
            Value::Table(fields.iter().map(entry).collect())
        }
    };
    Node { value, at: None }
}

/// Turns byte offsets into lines and columns.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(ends).collect(),
        }
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied();
        let before = self.text.get(start.unwrap_or(0)..offset).unwrap_or("");
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position {
            line: number(line.max(1)),
            column: number(before.chars().count() + 1),
        }
    }
}
