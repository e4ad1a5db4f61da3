//! JSON in which no member is given twice.
//!
//! Plain readers take the last of two members of one name. A caller that sends both says two
//! things, and another reader on the way (a proxy, an audit) may have taken the first.
//!
//! **Bounds.** One pass over the text, nesting as deep as `serde_json` allows (128), and at most
//! [`NAMED_MAX`] repeated members are named.

use std::cell::RefCell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Most repeated members that are named.
const NAMED_MAX: usize = 20;

/// Why a text was not taken.
#[derive(Debug)]
pub enum NotStrict {
    /// It is no JSON.
    Syntax(serde_json::Error),
    /// Paths of the members that are given more than once, in the order of the text.
    Repeated(Vec<String>),
}

/// Reads one JSON value.
///
/// # Errors
/// When it is no JSON, or a member is given twice.
pub fn read(bytes: &[u8]) -> Result<Value, NotStrict> {
    let repeated = RefCell::new(Vec::new());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Strict {
        place: Place::Root,
        repeated: &repeated,
    };
    let read = seed
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match (read, repeated.into_inner()) {
        (Err(error), _) => Err(NotStrict::Syntax(error)),
        (Ok(value), repeated) if repeated.is_empty() => Ok(value),
        (Ok(_), repeated) => Err(NotStrict::Repeated(repeated)),
    }
}

/// Where in the document; written out only for what is repeated.
#[derive(Clone, Copy)]
enum Place<'a> {
    Root,
    Member(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(Self::Root, name) => f.write_str(name),
            Self::Member(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, n) => write!(f, "{parent}[{n}]"),
        }
    }
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    place: Place<'a>,
    repeated: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(value) = items.next_element_seed(Strict {
            place: Place::Item(&self.place, array.len()),
            ..self
        })? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let place = Place::Member(&self.place, &name);
            if object.contains_key(&name) {
                let mut repeated = self.repeated.borrow_mut();
                if repeated.len() < NAMED_MAX {
                    repeated.push(place.to_string());
                }
            }
            let value = members.next_value_seed(Strict { place, ..self })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(text: &str) -> Vec<String> {
        match read(text.as_bytes()) {
            Err(NotStrict::Repeated(names)) => names,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_given_once_is_read_as_it_stands() {
        for text in [
            r#"{"a":[1,-2,3.5,null,true,{"b":"\u00e4"}],"c":{},"A":18446744073709551615}"#,
            "[]",
            "7",
        ] {
            let plain: Value = serde_json::from_str(text).unwrap();
            assert_eq!(read(text.as_bytes()).unwrap(), plain);
        }
    }

    #[test]
    fn repeated_members_are_named_with_their_place() {
        let text = r#"{"a":1,"b":[{},{"c":1,"c":1}],"a":2,"d":{"\u0064":1,"d":2}}"#;
        assert_eq!(repeated(text), ["b[1].c", "a", "d.d"]);
    }

    #[test]
    fn what_is_told_and_how_deep_is_read_are_bounded() {
        let many = format!("{{{}\"a\":1}}", "\"a\":1,".repeat(10_000));
        assert_eq!(repeated(&many).len(), NAMED_MAX);
        let deep = "[".repeat(100_000);
        assert!(matches!(read(deep.as_bytes()), Err(NotStrict::Syntax(_))));
        assert!(matches!(read(b"{} {}"), Err(NotStrict::Syntax(_))));
    }
}
