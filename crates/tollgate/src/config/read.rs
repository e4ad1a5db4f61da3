//! Reading settings: every one is checked by the table of [`super::fields`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{self, FIELDS, Field, Kind};

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// `section.key`; empty for the file as a whole.
    pub field: String,
    /// In words.
    pub detail: String,
    /// From 1; absent for what stands in the environment or is missing.
    pub line: Option<usize>,
    /// From 1.
    pub column: Option<usize>,
}

impl Problem {
    /// A problem that no line of the file can be blamed for.
    #[must_use]
    pub fn without_place(field: &str, detail: String) -> Self {
        Self { field: field.to_owned(), detail, line: None, column: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.detail)
    }
}

/// A setting's value after checking.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Socket(SocketAddr),
    Number(u64),
    Cidrs(Vec<IpNet>),
    Text(String),
}

/// All settings that have a value.
#[derive(Debug, Default)]
pub struct Values(BTreeMap<(&'static str, &'static str), Value>);

impl Values {
    /// A text; empty when unset.
    #[must_use]
    pub fn text(&self, section: &str, name: &str) -> String {
        self.find_text(section, name).unwrap_or_default()
    }

    /// A text, if set.
    #[must_use]
    pub fn find_text(&self, section: &str, name: &str) -> Option<String> {
        match self.find(section, name) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// A count, duration (µs) or size (bytes); 0 when unset.
    #[must_use]
    pub fn number(&self, section: &str, name: &str) -> u64 {
        match self.find(section, name) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// An address; port 0 of the unspecified address when unset.
    #[must_use]
    pub fn socket(&self, section: &str, name: &str) -> SocketAddr {
        match self.find(section, name) {
            Some(Value::Socket(socket)) => *socket,
            _ => SocketAddr::from(([0, 0, 0, 0], 0)),
        }
    }

    /// A list of networks.
    #[must_use]
    pub fn cidrs(&self, section: &str, name: &str) -> Vec<IpNet> {
        match self.find(section, name) {
            Some(Value::Cidrs(nets)) => nets.clone(),
            _ => Vec::new(),
        }
    }

    fn find(&self, section: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|((s, n), _)| *s == section && *n == name).map(|(_, value)| value)
    }

    fn set(&mut self, field: &'static Field, value: Value) {
        self.0.insert((field.section, field.name), value);
    }
}

/// A value as it stands in the file or the environment, before checking.
enum Raw<'a> {
    Text(&'a str),
    Number(i64),
    List(Vec<&'a str>),
    Other(&'static str),
}

/// Reads a file's text and the environment's overrides over the defaults.
///
/// # Errors
/// Every problem, in the order of the file, then those of the environment.
pub fn read(
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Values, Vec<Problem>> {
    let mut values = defaults();
    let mut problems = Vec::new();
    match DeTable::parse(text) {
        Ok(table) => read_file(text, table.get_ref(), &mut values, &mut problems),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            problems.push(placed(text, start, String::new(), error.message().to_owned()));
        }
    }
    read_environment(environment, &mut values, &mut problems);
    problems.sort_by_key(|problem| (problem.line.unwrap_or(usize::MAX), problem.column));
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

fn defaults() -> Values {
    let mut values = Values::default();
    for field in FIELDS.iter().filter(|field| !field.default.is_empty()) {
        let text = field.default.trim_matches('"');
        let raw = match field.kind {
            Kind::Count => Raw::Number(text.parse().unwrap_or(0)),
            Kind::Cidrs => Raw::List(Vec::new()),
            _ => Raw::Text(text),
        };
        if let Ok(value) = check(field.kind, &raw) {
            values.set(field, value);
        }
    }
    values
}

fn read_file(text: &str, table: &DeTable<'_>, values: &mut Values, problems: &mut Vec<Problem>) {
    for (section, content) in table {
        let name = section.get_ref().as_ref();
        let at = |detail| placed(text, section.span().start, name.to_owned(), detail);
        if !fields::sections().contains(&name) {
            problems.push(at(unknown("section", name, &fields::sections())));
            continue;
        }
        let DeValue::Table(content) = content.get_ref() else {
            problems.push(at(format!("is a section: write [{name}] and its settings below")));
            continue;
        };
        for (key, value) in content {
            read_setting(text, name, (key.get_ref(), key.span().start), value, values, problems);
        }
    }
}

fn read_setting(
    text: &str,
    section: &str,
    (key, start): (&str, usize),
    value: &Spanned<DeValue<'_>>,
    values: &mut Values,
    problems: &mut Vec<Problem>,
) {
    let name = format!("{section}.{key}");
    let Some(field) = fields::find(section, key) else {
        let known: Vec<&str> =
            FIELDS.iter().filter(|f| f.section == section).map(|f| f.name).collect();
        problems.push(placed(text, start, name, unknown("setting", key, &known)));
        return;
    };
    match check(field.kind, &raw(value.get_ref())) {
        Ok(value) => values.set(field, value),
        Err(detail) => problems.push(placed(text, value.span().start, name, detail)),
    }
}

fn raw<'a>(value: &'a DeValue<'_>) -> Raw<'a> {
    match value {
        DeValue::String(text) => Raw::Text(text),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Raw::Other("a number out of range"), Raw::Number)
        }
        DeValue::Array(items) => {
            let texts: Option<Vec<&str>> = items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(text.as_ref()),
                    _ => None,
                })
                .collect();
            texts.map_or(Raw::Other("a list of other things"), Raw::List)
        }
        DeValue::Float(_) => Raw::Other("a fraction"),
        DeValue::Boolean(_) => Raw::Other("true or false"),
        DeValue::Datetime(_) => Raw::Other("a time"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

fn read_environment(
    environment: impl Iterator<Item = (String, String)>,
    values: &mut Values,
    problems: &mut Vec<Problem>,
) {
    for (variable, text) in environment {
        let Some(path) = variable.strip_prefix("TOLLGATE__") else { continue };
        let path = path.to_ascii_lowercase();
        let found = path.split_once("__").and_then(|(section, name)| fields::find(section, name));
        let Some(field) = found else {
            let detail = "overrides no setting; `tollgate config reference` lists them".to_owned();
            problems.push(Problem::without_place(&variable, detail));
            continue;
        };
        let raw = match field.kind {
            Kind::Count => text.parse().map_or(Raw::Text(&text), Raw::Number),
            Kind::Cidrs => {
                Raw::List(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect())
            }
            _ => Raw::Text(&text),
        };
        match check(field.kind, &raw) {
            Ok(value) => values.set(field, value),
            Err(detail) => problems.push(Problem::without_place(&variable, detail)),
        }
    }
}

/// Checks one value; the error says what was expected.
fn check(kind: Kind, raw: &Raw<'_>) -> Result<Value, String> {
    let found = match raw {
        Raw::Text(text) => format!("{text:?}"),
        Raw::Number(number) => number.to_string(),
        Raw::List(_) => "a list".to_owned(),
        Raw::Other(what) => (*what).to_owned(),
    };
    let wrong = |expected: &str| Err(format!("expected {expected}, found {found}"));
    match (kind, raw) {
        (Kind::Socket, Raw::Text(text)) => match text.parse() {
            Ok(socket) => Ok(Value::Socket(socket)),
            Err(_) => wrong("an address and port such as \"127.0.0.1:8080\""),
        },
        (Kind::Count, Raw::Number(number)) => match u64::try_from(*number) {
            Ok(number) => Ok(Value::Number(number)),
            Err(_) => wrong("a whole number from 0 on"),
        },
        (Kind::Cidrs, Raw::List(items)) => {
            let nets: Result<Vec<IpNet>, _> = items.iter().map(|item| item.parse()).collect();
            match nets {
                Ok(nets) => Ok(Value::Cidrs(nets)),
                Err(_) => wrong("networks such as [\"10.0.0.0/8\"]"),
            }
        }
        (Kind::Duration, Raw::Text(text)) => match tollgate_model::parse_duration_us(text) {
            Ok(us) => Ok(Value::Number(us)),
            Err(_) => wrong("a duration such as \"250ms\", \"15m\" or \"24h\""),
        },
        (Kind::Bytes, Raw::Text(text)) => match bytes(text) {
            Some(bytes) => Ok(Value::Number(bytes)),
            None => wrong("a size such as \"64MiB\" or \"4GiB\""),
        },
        (Kind::Choice(words), Raw::Text(text)) if words.contains(text) => {
            Ok(Value::Text((*text).to_owned()))
        }
        (Kind::Choice(words), _) => wrong(&format!("one of {}", words.join(", "))),
        (Kind::Url(schemes), Raw::Text(text))
            if schemes.iter().any(|scheme| text.starts_with(scheme)) =>
        {
            Ok(Value::Text((*text).to_owned()))
        }
        (Kind::Url(schemes), _) => wrong(&format!("a URL that begins with {}", schemes.join(" or "))),
        (Kind::Path | Kind::Text | Kind::Secret, Raw::Text(text)) => {
            Ok(Value::Text((*text).to_owned()))
        }
        (Kind::Socket, _) => wrong("an address and port such as \"127.0.0.1:8080\""),
        (Kind::Count, _) => wrong("a whole number from 0 on"),
        (Kind::Cidrs, _) => wrong("networks such as [\"10.0.0.0/8\"]"),
        (Kind::Duration, _) => wrong("a duration such as \"250ms\", \"15m\" or \"24h\""),
        (Kind::Bytes, _) => wrong("a size such as \"64MiB\" or \"4GiB\""),
        (Kind::Path | Kind::Text | Kind::Secret, _) => wrong("text in quotes"),
    }
}

/// Reads `4GiB`, `64MiB`, `512KiB` or `4096`.
fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let near = known.iter().find(|candidate| is_near(candidate, name));
    match near {
        Some(near) => format!("is no {what}; did you mean {near}?"),
        None => format!("is no {what}; known are {}", known.join(", ")),
    }
}

/// Whether two names differ by at most two edits (Levenshtein).
fn is_near(a: &str, b: &str) -> bool {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (cb, above) in b.iter().zip(row.iter().skip(1)) {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = *above;
            left = cost.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().is_some_and(|distance| *distance <= 2)
}

fn placed(text: &str, start: usize, field: String, detail: String) -> Problem {
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    Problem { field, detail, line: Some(line), column: Some(column) }
}
