//! What items look like, and the requests that write and read them. Pure. Every item says which run wrote it and in which version, and
//! its filler follows from that: a read shows by itself whether it is whole.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;

use super::knowledge::Seen;
use crate::table;

/// Length of the filler's unit.
const UNIT: usize = 16;
/// Smallest item, bytes: keys and version need that.
pub const ITEM_BYTES_MIN: usize = 100;
/// Largest item, bytes (DynamoDB: 400 KB).
pub const ITEM_BYTES_MAX: usize = 400_000;

/// The items of one table.
#[derive(Clone, Debug)]
pub struct Items {
    /// The table's name.
    pub table: String,
    /// Size of an item in bytes.
    pub bytes: usize,
    /// Items that share a partition key, told apart by a sort key; 0 = every item has its own partition key, and there is no sort key.
    pub collection: u64,
    /// Number of this run.
    pub run: u32,
}

/// Attributes of an item, as far as they are looked at.
#[derive(Deserialize)]
struct Attributes<'a> {
    #[serde(borrow)]
    pk: Text<'a>,
    #[serde(borrow)]
    run: Text<'a>,
    #[serde(borrow)]
    version: Text<'a>,
    #[serde(borrow)]
    data: Text<'a>,
}

#[derive(Deserialize)]
enum Text<'a> {
    S(#[serde(borrow)] Cow<'a, str>),
    N(#[serde(borrow)] Cow<'a, str>),
}

impl Text<'_> {
    fn as_str(&self) -> &str {
        match self {
            Text::S(text) | Text::N(text) => text,
        }
    }
}

#[derive(Deserialize)]
struct Got<'a> {
    #[serde(borrow, rename = "Item")]
    item: Option<Attributes<'a>>,
}

impl Items {
    fn key_json(&self, item: u64) -> String {
        match item.checked_div(self.collection) {
            None => format!(r#""pk":{{"S":"{}"}}"#, table::key(item)),
            Some(collection) => format!(
                r#""pk":{{"S":"{}"}},"sk":{{"S":"{item:012}"}}"#,
                table::key(collection)
            ),
        }
    }

    fn partition_key(&self, item: u64) -> String {
        table::key(item.checked_div(self.collection).unwrap_or(item))
    }

    /// The item as JSON, without braces.
    fn item_json(&self, item: u64, version: u64) -> String {
        let mut text = self.key_json(item);
        let _ = write!(
            text,
            r#","run":{{"N":"{}"}},"version":{{"N":"{version}"}},"data":{{"S":""#,
            self.run
        );
        filler(&mut text, item, self.run, version, self.filler_bytes());
        text.push_str("\"}");
        text
    }

    /// PutItem.
    pub fn put(&self, item: u64, version: u64) -> Vec<u8> {
        let item = self.item_json(item, version);
        format!(r#"{{"TableName":"{}","Item":{{{item}}}}}"#, self.table).into_bytes()
    }

    /// PutItem of an item that holds `seen`, and of no other.
    pub fn replace(&self, item: u64, version: u64, seen: Seen) -> Vec<u8> {
        let whole = self.item_json(item, version);
        let condition = match seen {
            Seen::Version(seen) => format!(
                r##""ConditionExpression":"#r = :r AND #v = :v","ExpressionAttributeNames":{{"#r":"run","#v":"version"}},"ExpressionAttributeValues":{{":r":{{"N":"{}"}},":v":{{"N":"{seen}"}}}}"##,
                self.run
            ),
            Seen::Earlier => format!(
                r##""ConditionExpression":"#r <> :r","ExpressionAttributeNames":{{"#r":"run"}},"ExpressionAttributeValues":{{":r":{{"N":"{}"}}}}"##,
                self.run
            ),
            Seen::Absent => r#""ConditionExpression":"attribute_not_exists(pk)""#.to_owned(),
        };
        format!(
            r#"{{"TableName":"{}","Item":{{{whole}}},{condition}}}"#,
            self.table
        )
        .into_bytes()
    }

    /// GetItem.
    pub fn get(&self, item: u64, strong: bool) -> Vec<u8> {
        format!(
            r#"{{"TableName":"{}","Key":{{{}}},"ConsistentRead":{strong}}}"#,
            self.table,
            self.key_json(item)
        )
        .into_bytes()
    }

    /// BatchWriteItem of these items in version 0.
    pub fn batch(&self, items: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let puts: Vec<String> = items
            .into_iter()
            .map(|item| {
                format!(
                    r#"{{"PutRequest":{{"Item":{{{}}}}}}}"#,
                    self.item_json(item, 0)
                )
            })
            .collect();
        format!(
            r#"{{"RequestItems":{{"{}":[{}]}}}}"#,
            self.table,
            puts.join(",")
        )
        .into_bytes()
    }

    /// What GetItem's answer holds, if it is whole and the right item.
    pub fn read(&self, item: u64, body: &[u8]) -> Result<Seen, String> {
        let got: Got =
            serde_json::from_slice(body).map_err(|error| format!("unreadable: {error}"))?;
        let Some(attributes) = got.item else {
            return Ok(Seen::Absent);
        };
        if attributes.pk.as_str() != self.partition_key(item) {
            return Err(format!(
                "item {} instead of {}",
                attributes.pk.as_str(),
                self.partition_key(item)
            ));
        }
        let (run, version) = (attributes.run.as_str(), attributes.version.as_str());
        let (Ok(run), Ok(version)) = (run.parse::<u32>(), version.parse::<u64>()) else {
            return Err(format!("run {run} and version {version} are no numbers"));
        };
        let data = attributes.data.as_str().as_bytes();
        let mut unit = String::new();
        filler(&mut unit, item, run, version, UNIT);
        let whole = data
            .chunks(UNIT)
            .all(|chunk| unit.as_bytes().starts_with(chunk));
        // The filler differs a version, so half an old and half a new value never pass.
        if !whole || (run == self.run && data.len() != self.filler_bytes()) {
            return Err(format!("item {item}: version {version} is not whole"));
        }
        Ok(if run == self.run {
            Seen::Version(version)
        } else {
            Seen::Earlier
        })
    }

    /// What the item's size leaves for the filler: names and values count, as in DynamoDB, numbers half their digits.
    fn filler_bytes(&self) -> usize {
        let fixed = 44 + if self.collection > 0 { 14 } else { 0 };
        self.bytes.saturating_sub(fixed)
    }
}

/// Appends `bytes` characters that follow from item, run and version.
fn filler(text: &mut String, item: u64, run: u32, version: u64, bytes: usize) {
    // SplitMix64's finaliser: any difference changes about half of the bits.
    let mut mixed = item
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(version.wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(u64::from(run) << 17);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let unit = format!("{mixed:016x}");
    for _ in 0..bytes / UNIT {
        text.push_str(&unit);
    }
    text.push_str(&unit[..bytes % UNIT]);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn items(collection: u64) -> Items {
        Items {
            table: "t".into(),
            bytes: 900,
            collection,
            run: 5,
        }
    }

    fn answer(request: &[u8]) -> Value {
        let request: Value = serde_json::from_slice(request).unwrap();
        json!({"Item": request["Item"]})
    }

    fn read(items: &Items, item: u64, answer: &Value) -> Result<Seen, String> {
        items.read(item, answer.to_string().as_bytes())
    }

    /// Size as DynamoDB counts it: names and values; numbers by their digits.
    fn size(item: &Value) -> usize {
        let attributes = item.as_object().unwrap().iter();
        attributes
            .map(|(name, value)| match (&value["S"], &value["N"]) {
                (Value::String(text), _) => name.len() + text.len(),
                (_, Value::String(number)) => name.len() + number.len().div_ceil(2) + 1,
                _ => unreachable!(),
            })
            .sum()
    }

    #[test]
    fn what_was_written_is_read() {
        for collection in [0, 10] {
            let items = items(collection);
            let got = answer(&items.put(77, 3));
            assert_eq!(read(&items, 77, &got), Ok(Seen::Version(3)));
            let size = size(&got["Item"]);
            assert!((880..=900).contains(&size), "{size} bytes");
            let earlier = Items {
                run: 4,
                ..items.clone()
            };
            assert_eq!(read(&earlier, 77, &got), Ok(Seen::Earlier));
        }
        assert_eq!(read(&items(0), 1, &json!({})), Ok(Seen::Absent));
    }

    #[test]
    fn wrong_and_torn_items_are_found() {
        let items = items(0);
        let got = answer(&items.put(77, 3));
        assert!(read(&items, 78, &got).unwrap_err().contains("instead of"));
        let other = answer(&items.put(77, 4));
        let mut torn = got.clone();
        torn["Item"]["version"] = other["Item"]["version"].clone();
        assert!(read(&items, 77, &torn).unwrap_err().contains("not whole"));
        let mut half = got.clone();
        let (new, old) = (
            other["Item"]["data"]["S"].as_str().unwrap(),
            got["Item"]["data"]["S"].as_str().unwrap(),
        );
        half["Item"]["data"]["S"] = json!(format!("{}{}", &old[..400], &new[400..]));
        assert!(read(&items, 77, &half).is_err());
        let mut short = got.clone();
        short["Item"]["data"]["S"] = json!(&old[..400]);
        assert!(read(&items, 77, &short).is_err());
        assert!(items.read(77, b"nonsense").is_err());
    }

    #[test]
    fn requests_are_json() {
        let items = items(10);
        let batch: Value = serde_json::from_slice(&items.batch(0..25)).unwrap();
        assert_eq!(batch["RequestItems"]["t"].as_array().unwrap().len(), 25);
        let get: Value = serde_json::from_slice(&items.get(31, true)).unwrap();
        assert_eq!(
            get["Key"],
            json!({"pk": {"S": table::key(3)}, "sk": {"S": "000000000031"}})
        );
        for seen in [Seen::Absent, Seen::Earlier, Seen::Version(2)] {
            let put: Value = serde_json::from_slice(&items.replace(31, 3, seen)).unwrap();
            assert!(put["ConditionExpression"].is_string());
        }
    }
}
