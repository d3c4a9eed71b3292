//! Time to live: what a table's definition says of it, and when an item is expired. Never deletes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{AttributeValue, Item, Number};

/// Items whose time was over longer ago than this are left alone, seconds: five years, in which a wrong value is more likely than an old item.
/// (Developer guide, "How it works: TTL".)
const AGE_S_MAX: u64 = 5 * 365 * 86_400;

/// Time to live of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeToLive {
    /// The attribute that says when an item expires; none: items don't, unless `next` says otherwise soon.
    #[serde(default)]
    pub attribute: Option<String>,
    /// When it was changed last, milliseconds since the epoch; 0 = never.
    #[serde(default)]
    pub changed_ms: u64,
    /// The attribute of the last change, enabled or disabled with it: shown while the change takes effect.
    #[serde(default)]
    pub changed_attribute: String,
}

impl TimeToLive {
    /// It was never changed.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// `TimeToLiveDescription` of the API. `settling`: the last change is not with all partitions yet.
    pub fn describe(&self, settling: bool) -> Value {
        match (&self.attribute, settling) {
            (Some(attribute), settling) => json!({
                "TimeToLiveStatus": if settling { "ENABLING" } else { "ENABLED" },
                "AttributeName": attribute,
            }),
            (None, true) => json!({
                "TimeToLiveStatus": "DISABLING",
                "AttributeName": self.changed_attribute,
            }),
            (None, false) => json!({ "TimeToLiveStatus": "DISABLED" }),
        }
    }
}

/// Whether the item's time to live is over at `now_s` (seconds since the epoch): the attribute is a number, in the past, and not by more than five
/// years.
pub fn is_expired(item: &Item, attribute: &str, now_s: u64) -> bool {
    let Some(AttributeValue::N(number)) = item.get(attribute) else {
        return false;
    };
    let oldest = Number::from(now_s.saturating_sub(AGE_S_MAX));
    *number <= Number::from(now_s) && *number >= oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: AttributeValue) -> Item {
        Item::from([("ttl".to_owned(), value)])
    }

    fn number(text: &str) -> AttributeValue {
        AttributeValue::N(text.parse().expect("a number"))
    }

    #[test]
    fn only_numbers_of_the_last_five_years_are_expired() {
        let now_s = 1_700_000_000;
        let expired = |value| is_expired(&item(value), "ttl", now_s);
        assert!(expired(number("1700000000")));
        assert!(expired(number("1699999999.5")));
        assert!(!expired(number("1700000001")));
        assert!(!expired(number("1700000000000")), "milliseconds");
        assert!(expired(number("1542320000")), "exactly five years");
        assert!(!expired(number("1542319999")), "more than five years");
        assert!(!expired(number("0")));
        assert!(!expired(number("-1")));
        assert!(!expired(AttributeValue::S("1699999999".to_owned())));
        assert!(!is_expired(&item(number("1699999999")), "other", now_s));
    }

    #[test]
    fn the_status_follows_the_last_change() {
        let mut ttl = TimeToLive::default();
        assert_eq!(ttl.describe(false)["TimeToLiveStatus"], "DISABLED");
        ttl.attribute = Some("a".to_owned());
        assert_eq!(ttl.describe(true)["TimeToLiveStatus"], "ENABLING");
        assert_eq!(ttl.describe(false)["AttributeName"], "a");
        ttl.changed_attribute = ttl.attribute.take().unwrap_or_default();
        assert_eq!(ttl.describe(true)["TimeToLiveStatus"], "DISABLING");
        assert_eq!(ttl.describe(true)["AttributeName"], "a");
    }
}
