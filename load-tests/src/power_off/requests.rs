//! The requests of the traffic: what is drawn, how it is written as JSON, what its answer says. Knows nothing of time or outcome.

use rand::{RngExt, rngs::SmallRng};
use serde_json::{Value as Json, json};

/// Registers: keys that are put, updated on condition, deleted and read.
pub const REGISTERS: usize = 150;
/// The first of them get a quarter of the traffic: many requests at once on one key.
const HOT: usize = 10;
/// Counters, to which everybody adds.
pub const COUNTERS: usize = 30;
/// Size of an item, bytes.
const PADDING_BYTES: usize = 600;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// GetItem of a register.
    Get {
        /// Register.
        key: usize,
        /// Strongly consistent.
        strong: bool,
    },
    /// PutItem of a register.
    Put {
        /// Register.
        key: usize,
        /// Value; used once.
        value: u64,
    },
    /// UpdateItem of a register that must hold `expected`.
    Update {
        /// Register.
        key: usize,
        /// Value that must be there, or none.
        expected: Option<u64>,
        /// Value; used once.
        value: u64,
    },
    /// DeleteItem of a register.
    Delete {
        /// Register.
        key: usize,
    },
    /// UpdateItem that adds one to a counter.
    Add {
        /// Counter.
        counter: usize,
    },
    /// PutItem of a new item, once.
    Insert {
        /// Its number.
        number: u64,
    },
    /// BatchWriteItem of registers.
    BatchPut {
        /// Registers and values.
        puts: Vec<(usize, u64)>,
    },
    /// BatchGetItem of registers, strongly consistent.
    BatchGet {
        /// Registers.
        keys: Vec<usize>,
    },
}

/// What is asked for, without the values that every try draws anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// GetItem.
    Get {
        /// Strongly consistent.
        strong: bool,
    },
    /// PutItem.
    Put,
    /// Conditional UpdateItem.
    Update,
    /// DeleteItem.
    Delete,
    /// UpdateItem, ADD.
    Add,
    /// PutItem of a new item.
    Insert,
    /// BatchWriteItem.
    BatchPut,
    /// BatchGetItem.
    BatchGet,
}

impl Wish {
    /// Draws one: about half of the requests read.
    pub fn draw(random: &mut SmallRng) -> Self {
        match random.random_range(0..100) {
            0..28 => Wish::Get { strong: true },
            28..48 => Wish::Get { strong: false },
            48..64 => Wish::Put,
            64..75 => Wish::Update,
            75..78 => Wish::Delete,
            78..86 => Wish::Add,
            86..95 => Wish::Insert,
            95..98 => Wish::BatchPut,
            _ => Wish::BatchGet,
        }
    }
}

/// Draws a register.
pub fn register(random: &mut SmallRng) -> usize {
    if random.random_bool(0.25) {
        random.random_range(0..HOT)
    } else {
        random.random_range(0..REGISTERS)
    }
}

/// Draws two to five different registers.
pub fn registers(random: &mut SmallRng) -> Vec<usize> {
    let mut keys: Vec<usize> = (0..random.random_range(2..6))
        .map(|_| register(random))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Name of a register.
pub fn register_name(key: usize) -> String {
    format!("register-{key}")
}

/// Name of a counter.
pub fn counter_name(counter: usize) -> String {
    format!("counter-{counter}")
}

/// Name of an inserted item.
pub fn insert_name(number: u64) -> String {
    format!("insert-{number}")
}

fn item(name: &str, value: u64) -> Json {
    json!({"pk": {"S": name}, "v": {"N": value.to_string()}, "padding": {"S": "x".repeat(PADDING_BYTES)}})
}

fn key_of(name: &str) -> Json {
    json!({"pk": {"S": name}})
}

impl Request {
    /// The operation's name.
    pub fn operation(&self) -> &'static str {
        match self {
            Request::Get { .. } => "GetItem",
            Request::Put { .. } | Request::Insert { .. } => "PutItem",
            Request::Update { .. } | Request::Add { .. } => "UpdateItem",
            Request::Delete { .. } => "DeleteItem",
            Request::BatchPut { .. } => "BatchWriteItem",
            Request::BatchGet { .. } => "BatchGetItem",
        }
    }

    /// The body.
    pub fn body(&self, table: &str) -> Vec<u8> {
        let body = match self {
            Request::Get { key, strong } => {
                json!({"TableName": table, "Key": key_of(&register_name(*key)), "ConsistentRead": strong})
            }
            Request::Put { key, value } => {
                json!({"TableName": table, "Item": item(&register_name(*key), *value)})
            }
            Request::Update {
                key,
                expected,
                value,
            } => {
                let mut body = json!({
                    "TableName": table, "Key": key_of(&register_name(*key)),
                    "UpdateExpression": "SET v = :v, padding = :p",
                    "ConditionExpression": "attribute_not_exists(pk)",
                    "ExpressionAttributeValues": {":v": {"N": value.to_string()}, ":p": {"S": "y".repeat(PADDING_BYTES)}},
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                });
                if let Some(expected) = expected {
                    body["ConditionExpression"] = json!("v = :e");
                    body["ExpressionAttributeValues"][":e"] = json!({"N": expected.to_string()});
                }
                body
            }
            Request::Delete { key } => {
                json!({"TableName": table, "Key": key_of(&register_name(*key))})
            }
            Request::Add { counter } => json!({
                "TableName": table, "Key": key_of(&counter_name(*counter)),
                "UpdateExpression": "ADD v :one", "ExpressionAttributeValues": {":one": {"N": "1"}},
                "ReturnValues": "UPDATED_NEW",
            }),
            Request::Insert { number } => json!({
                "TableName": table, "Item": item(&insert_name(*number), *number),
                "ConditionExpression": "attribute_not_exists(pk)",
            }),
            Request::BatchPut { puts } => {
                let puts = puts.iter().map(|(key, value)| json!({"PutRequest": {"Item": item(&register_name(*key), *value)}}));
                json!({"RequestItems": {table: puts.collect::<Vec<_>>()}})
            }
            Request::BatchGet { keys } => {
                let keys: Vec<Json> = keys
                    .iter()
                    .map(|key| key_of(&register_name(*key)))
                    .collect();
                json!({"RequestItems": {table: {"Keys": keys, "ConsistentRead": true}}})
            }
        };
        body.to_string().into_bytes()
    }
}

/// The number in attribute `v` of an item; none for an absent item. An error says what came instead.
pub fn value_of(item: &Json) -> Result<Option<u64>, String> {
    if item.is_null() {
        return Ok(None);
    }
    let number = item["v"]["N"]
        .as_str()
        .and_then(|number| number.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| format!("an item without a number in v: {item}"))
}

/// The register that an item or key belongs to.
pub fn register_of(item: &Json) -> Option<usize> {
    item["pk"]["S"]
        .as_str()?
        .strip_prefix("register-")?
        .parse()
        .ok()
}
