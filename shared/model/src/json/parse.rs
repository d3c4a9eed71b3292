//! Visitors that read values straight from the parser. Nothing here recurses deeper than values may be nested: what lies
//! deeper is skipped, which serde_json does without recursion.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{JsonItem, JsonValue};
use crate::error::{ApiError, texts};
use crate::value::NESTING_LEVELS_MAX;
use crate::{AttributeValue, Item, Number};

/// A parsed value, or why DynamoDB refuses it.
type Checked<T> = Result<T, ApiError>;

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ValueSeed { level: 1 }.deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for JsonItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(MapVisitor { level: 1 })
            .map(Self)
    }
}

/// The errors for JSON types that a place does not take.
macro_rules! refuse {
    (bool => $text:expr) => {
        fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
            let _ = value;
            Err(E::custom($text(if value {
                "TRUE_VALUE"
            } else {
                "FALSE_VALUE"
            })))
        }
    };
    (number => $text:expr) => {
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Err(E::custom($text("NUMBER_VALUE")))
        }
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(E::custom($text("NUMBER_VALUE")))
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(E::custom($text("DECIMAL_VALUE")))
        }
    };
    (string => $text:expr) => {
        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Err(E::custom($text("STRING_VALUE")))
        }
    };
    (list => $text:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(A::Error::custom($text))
        }
    };
    (map) => {
        fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(A::Error::custom(texts::UNEXPECTED_MAP))
        }
    };
}

/// One attribute value. `level` counts from 1, the attribute itself.
struct ValueSeed {
    level: usize,
}

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Checked<AttributeValue>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.level > NESTING_LEVELS_MAX {
            deserializer.deserialize_ignored_any(IgnoredAny)?;
            return Ok(Err(ApiError::validation(texts::NESTING)));
        }
        deserializer.deserialize_any(ValueVisitor { level: self.level })
    }
}

struct ValueVisitor {
    level: usize,
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Checked<AttributeValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut types_seen = 0u16;
        let mut value = None;
        let mut refusal = None;
        while let Some(kind) = map.next_key::<Kind>()? {
            let level = self.level;
            let parsed = match kind {
                Kind::S => map.next_value::<OrNull<Text>>()?.0.map(|text| Ok(text.0)),
                Kind::N => map
                    .next_value::<OrNull<NumberText>>()?
                    .0
                    .map(|number| number.0),
                Kind::B => map.next_value::<OrNull<Blob>>()?.0.map(|blob| Ok(blob.0)),
                Kind::Bool => map
                    .next_value::<OrNull<Flag>>()?
                    .0
                    .map(|flag| Ok(AttributeValue::Bool(flag.0))),
                // nubo-db/dynamodb-conformance saw the service take `false` too and give it back as `true`.
                Kind::Null => map
                    .next_value::<OrNull<Flag>>()?
                    .0
                    .map(|_| Ok(AttributeValue::Null)),
                Kind::Ss => map
                    .next_value::<OrNull<Elements<Text>>>()?
                    .0
                    .map(string_set),
                Kind::Ns => map
                    .next_value::<OrNull<Elements<NumberText>>>()?
                    .0
                    .map(number_set),
                Kind::Bs => map
                    .next_value::<OrNull<Elements<Blob>>>()?
                    .0
                    .map(binary_set),
                Kind::M => map
                    .next_value_seed(OrNullSeed(MapVisitor { level: level + 1 }))?
                    .map(|map| map.map(AttributeValue::M)),
                Kind::L => map
                    .next_value_seed(OrNullSeed(ListVisitor { level: level + 1 }))?
                    .map(|list| list.map(AttributeValue::L)),
                Kind::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    None
                }
            };
            match parsed {
                // A null is as good as nothing.
                None => {}
                Some(parsed) => {
                    types_seen |= 1 << kind as u16;
                    match parsed {
                        Ok(parsed) => value = Some(parsed),
                        Err(error) => refusal = refusal.or(Some(error)),
                    }
                }
            }
        }
        Ok(match (refusal, types_seen.count_ones(), value) {
            (Some(refusal), ..) => Err(refusal),
            (None, 1, Some(value)) => Ok(value),
            (None, 0, _) => Err(ApiError::validation(texts::NO_DATATYPE)),
            _ => Err(ApiError::validation(texts::SEVERAL_DATATYPES)),
        })
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Err(ApiError::validation(texts::NO_DATATYPE)))
    }

    refuse!(bool => |_| texts::UNEXPECTED_VALUE);
    refuse!(number => |_| texts::UNEXPECTED_VALUE);
    refuse!(string => |_| texts::UNEXPECTED_VALUE);
    refuse!(list => texts::unrecognized_collection("class com.amazonaws.dynamodb.v20120810.AttributeValue"));
}

/// DynamoDB's type letters.
#[derive(Clone, Copy)]
enum Kind {
    S,
    N,
    B,
    Bool,
    Null,
    Ss,
    Ns,
    Bs,
    M,
    L,
    Unknown,
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KindVisitor;
        impl Visitor<'_> for KindVisitor {
            type Value = Kind;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type letter")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Kind, E> {
                Ok(match text {
                    "S" => Kind::S,
                    "N" => Kind::N,
                    "B" => Kind::B,
                    "BOOL" => Kind::Bool,
                    "NULL" => Kind::Null,
                    "SS" => Kind::Ss,
                    "NS" => Kind::Ns,
                    "BS" => Kind::Bs,
                    "M" => Kind::M,
                    "L" => Kind::L,
                    _ => Kind::Unknown,
                })
            }
        }
        deserializer.deserialize_str(KindVisitor)
    }
}

/// Entries of a map or item; their values are at `level`.
struct MapVisitor {
    level: usize,
}

impl<'de> Visitor<'de> for MapVisitor {
    type Value = Checked<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of attribute values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut item = Ok(Item::new());
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(ValueSeed { level: self.level })?;
            match (&mut item, value) {
                (Ok(entries), Ok(value)) => drop(entries.insert(name, value)),
                (Ok(_), Err(error)) => item = Err(error),
                (Err(_), _) => {}
            }
        }
        Ok(item)
    }

    refuse!(bool => |_| texts::UNEXPECTED_FIELD);
    refuse!(number => |_| texts::UNEXPECTED_FIELD);
    refuse!(string => |_| texts::UNEXPECTED_FIELD);
    refuse!(list => texts::unrecognized_collection(
        "java.util.Map<java.lang.String, com.amazonaws.dynamodb.v20120810.AttributeValue>"
    ));
}

/// Elements of a list; they are at `level`.
struct ListVisitor {
    level: usize,
}

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Checked<Vec<AttributeValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of attribute values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Ok(Vec::new());
        while let Some(value) = seq.next_element_seed(ValueSeed { level: self.level })? {
            match (&mut list, value) {
                (Ok(elements), Ok(value)) => elements.push(value),
                (Ok(_), Err(error)) => list = Err(error),
                (Err(_), _) => {}
            }
        }
        Ok(list)
    }

    refuse!(bool => |_| texts::UNEXPECTED_FIELD);
    refuse!(number => |_| texts::UNEXPECTED_FIELD);
    refuse!(string => |_| texts::UNEXPECTED_FIELD);
    refuse!(map);
}

/// Runs a visitor, unless the JSON is `null`.
struct OrNullSeed<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for OrNullSeed<V> {
    type Value = Option<V::Value>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrNullSeed<V> {
    type Value = Option<V::Value>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self.0).map(Some)
    }
}

/// A type that its own visitor reads, or `null`.
struct OrNull<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrNull<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<T>::deserialize(deserializer).map(Self)
    }
}

/// Content of `S`, and of an element of `SS`.
struct Text(AttributeValue);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(AttributeValue::S(text.to_owned())))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Text, E> {
                Ok(Text(AttributeValue::S(text)))
            }
            refuse!(bool => |token| texts::cannot_be(token, "String"));
            refuse!(number => |token| texts::cannot_be(token, "String"));
            refuse!(list => texts::unrecognized_collection("class java.lang.String"));
            refuse!(map);
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

/// Content of `N`, and of an element of `NS`.
struct NumberText(Checked<AttributeValue>);

impl<'de> Deserialize<'de> for NumberText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl<'de> Visitor<'de> for NumberVisitor {
            type Value = NumberText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<NumberText, E> {
                Ok(NumberText(
                    Number::parse(text)
                        .map(AttributeValue::N)
                        .map_err(|error| ApiError::validation(texts::number(error, text))),
                ))
            }
            refuse!(bool => |token| texts::cannot_be(token, "String"));
            refuse!(number => |token| texts::cannot_be(token, "String"));
            refuse!(list => texts::unrecognized_collection("class java.lang.String"));
            refuse!(map);
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}

/// Content of `B`, and of an element of `BS`.
struct Blob(AttributeValue);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;
        impl<'de> Visitor<'de> for BlobVisitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a base64 string")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Blob, E> {
                if !text.len().is_multiple_of(4) {
                    return Err(E::custom(texts::base64_length(text.chars().count())));
                }
                match STANDARD.decode(text) {
                    Ok(bytes) => Ok(Blob(AttributeValue::B(Bytes::from(bytes)))),
                    Err(_) => Err(E::custom(texts::BASE64_LAST)),
                }
            }
            refuse!(bool => |_| texts::NOT_BASE64);
            refuse!(number => |_| texts::NOT_BASE64);
            refuse!(list => texts::unrecognized_collection("class java.nio.ByteBuffer"));
            refuse!(map);
        }
        deserializer.deserialize_any(BlobVisitor)
    }
}

/// Content of `BOOL` and `NULL`.
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;
        impl<'de> Visitor<'de> for FlagVisitor {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }
            refuse!(number => |token| texts::cannot_be(token, "Boolean"));
            refuse!(string => |_| texts::UNEXPECTED_TOKEN);
            refuse!(list => texts::unrecognized_collection("class java.lang.Boolean"));
            refuse!(map);
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}

/// Elements of a set as they came; `None` is a null.
struct Elements<T>(Vec<Option<T>>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Elements<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementsVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ElementsVisitor<T> {
            type Value = Elements<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element::<Option<T>>()? {
                    elements.push(element);
                }
                Ok(Elements(elements))
            }
            refuse!(bool => |_| texts::UNEXPECTED_FIELD);
            refuse!(number => |_| texts::UNEXPECTED_FIELD);
            refuse!(string => |_| texts::UNEXPECTED_FIELD);
            refuse!(map);
        }
        deserializer.deserialize_any(ElementsVisitor(std::marker::PhantomData))
    }
}

/// Sorts; whether an element occurred twice. Sorted input, the usual case, is neither moved nor copied.
fn sort_has_duplicates<T: Ord>(elements: &mut [T]) -> bool {
    elements.sort_unstable();
    elements.windows(2).any(|pair| pair[0] == pair[1])
}

fn string_set(elements: Elements<Text>) -> Checked<AttributeValue> {
    let mut set = Vec::with_capacity(elements.0.len());
    for element in elements.0 {
        match element {
            Some(Text(AttributeValue::S(text))) => set.push(text),
            _ => return Err(ApiError::validation(texts::STRING_SET_NULL)),
        }
    }
    if set.is_empty() {
        return Err(ApiError::validation(texts::STRING_SET_EMPTY));
    }
    let given = (!set.is_sorted()).then(|| set.clone());
    if sort_has_duplicates(&mut set) {
        let given = given.as_ref().unwrap_or(&set);
        return Err(ApiError::validation(texts::duplicate_strings(given)));
    }
    Ok(AttributeValue::StringSet(set))
}

fn number_set(elements: Elements<NumberText>) -> Checked<AttributeValue> {
    let mut set = Vec::with_capacity(elements.0.len());
    for element in elements.0 {
        match element.map(|number| number.0) {
            Some(Ok(AttributeValue::N(number))) => set.push(number),
            Some(Err(error)) => return Err(error),
            _ => return Err(ApiError::validation(texts::NOT_NUMERIC)),
        }
    }
    if set.is_empty() {
        return Err(ApiError::validation(texts::NUMBER_SET_EMPTY));
    }
    if sort_has_duplicates(&mut set) {
        return Err(ApiError::validation(texts::DUPLICATE_NUMBERS));
    }
    Ok(AttributeValue::NumberSet(set))
}

fn binary_set(elements: Elements<Blob>) -> Checked<AttributeValue> {
    let mut set = Vec::with_capacity(elements.0.len());
    for element in elements.0 {
        match element {
            Some(Blob(AttributeValue::B(bytes))) => set.push(bytes),
            _ => return Err(ApiError::validation(texts::BINARY_SET_NULL)),
        }
    }
    if set.is_empty() {
        return Err(ApiError::validation(texts::BINARY_SET_EMPTY));
    }
    let given = (!set.is_sorted()).then(|| set.clone());
    if sort_has_duplicates(&mut set) {
        let given = given.as_ref().unwrap_or(&set);
        let given: Vec<_> = given.iter().map(|bytes| STANDARD.encode(bytes)).collect();
        return Err(ApiError::validation(texts::duplicate_binaries(&given)));
    }
    Ok(AttributeValue::BinarySet(set))
}
