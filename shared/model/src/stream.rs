//! Streams of a table's changes as its definition has them: which there is, which there were, and what is wanted of a change. Never validates a request.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::table::{TableDefinition, api_time};

/// What the records of a stream show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum StreamViewType {
    KeysOnly,
    NewImage,
    OldImage,
    NewAndOldImages,
}

impl StreamViewType {
    /// All, in the order in which the service's messages list them.
    pub const ALL: [Self; 4] = [
        Self::NewImage,
        Self::OldImage,
        Self::NewAndOldImages,
        Self::KeysOnly,
    ];

    /// DynamoDB's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeysOnly => "KEYS_ONLY",
            Self::NewImage => "NEW_IMAGE",
            Self::OldImage => "OLD_IMAGE",
            Self::NewAndOldImages => "NEW_AND_OLD_IMAGES",
        }
    }

    /// The type with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.as_str() == word)
    }

    /// Whether records show the item as it was before.
    pub fn shows_old(self) -> bool {
        matches!(self, Self::OldImage | Self::NewAndOldImages)
    }

    /// Whether records show the item as it is afterwards.
    pub fn shows_new(self) -> bool {
        matches!(self, Self::NewImage | Self::NewAndOldImages)
    }
}

/// A stream. Its creation time names it: a table has one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// When it was enabled, milliseconds since the epoch.
    pub created_ms: u64,
    /// What its records show.
    pub view: StreamViewType,
    /// When it was disabled, milliseconds since the epoch; none: it is enabled.
    #[serde(default)]
    pub ended_ms: Option<u64>,
}

/// For how long a disabled stream is known, milliseconds.
pub const STREAM_KEPT_MS: u64 = 86_400_000;
/// Disabled streams that a table remembers at most.
const PAST_MAX: usize = 16;

impl Stream {
    /// `StreamLabel` of the API: the creation time.
    pub fn label(&self) -> String {
        label_of(self.created_ms)
    }

    /// `StreamArn` of the API.
    pub fn arn(&self, table_arn: &str) -> String {
        format!("{table_arn}/stream/{}", self.label())
    }
}

/// Streams of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSettings {
    /// The one that is enabled, or was enabled last, and those of the last day, the latest first.
    #[serde(default)]
    pub all: Vec<Stream>,
}

impl StreamSettings {
    /// There is none and never was.
    pub fn is_default(&self) -> bool {
        self.all.is_empty()
    }

    /// The stream that is enabled.
    pub fn enabled(&self) -> Option<&Stream> {
        self.all.first().filter(|stream| stream.ended_ms.is_none())
    }

    /// The stream with this label, enabled or not.
    pub fn with_label(&self, label: &str) -> Option<&Stream> {
        self.all.iter().find(|stream| stream.label() == label)
    }

    /// Enables one; there must be none enabled.
    pub fn enable(&mut self, view: StreamViewType, now_ms: u64) {
        self.forget(now_ms);
        // Two streams of a table never have the same name.
        let last = self.all.first().map_or(0, |stream| stream.created_ms + 1);
        let stream = Stream {
            created_ms: now_ms.max(last),
            view,
            ended_ms: None,
        };
        self.all.insert(0, stream);
    }

    /// Disables the one that is enabled.
    pub fn disable(&mut self, now_ms: u64) {
        self.forget(now_ms);
        if let Some(stream) = self.all.first_mut() {
            stream.ended_ms.get_or_insert(now_ms);
        }
    }

    fn forget(&mut self, now_ms: u64) {
        let known = |ended_ms: Option<u64>| {
            ended_ms.is_none_or(|ended_ms| ended_ms + STREAM_KEPT_MS > now_ms)
        };
        let mut first = true;
        // The last one stays: its name is the latest label.
        self.all
            .retain(|stream| std::mem::take(&mut first) || known(stream.ended_ms));
        self.all.truncate(PAST_MAX - 1);
    }

    /// Adds `StreamSpecification`, `LatestStreamArn` and `LatestStreamLabel` to a `TableDescription`.
    pub fn describe(&self, table_arn: &str, table: &mut Value) {
        if let Some(stream) = self.enabled() {
            table["StreamSpecification"] = json!({
                "StreamEnabled": true,
                "StreamViewType": stream.view.as_str(),
            });
        }
        if let Some(latest) = self.all.first() {
            table["LatestStreamArn"] = json!(latest.arn(table_arn));
            table["LatestStreamLabel"] = json!(latest.label());
        }
    }
}

/// What is wanted of a change of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeImages {
    /// Creation of the stream that wants it, milliseconds since the epoch; 0: only indexes do.
    pub stream: u64,
    /// The item as it was before is wanted.
    pub old_image: bool,
}

impl TableDefinition {
    /// Whether changes of the table's items are wanted by anybody.
    pub fn change_images(&self) -> Option<ChangeImages> {
        let stream = self.streams.enabled();
        let indexed = self.has_global_indexes();
        (stream.is_some() || indexed).then(|| ChangeImages {
            stream: stream.map_or(0, |stream| stream.created_ms),
            old_image: indexed || stream.is_some_and(|stream| stream.view.shows_old()),
        })
    }
}

/// A time as the labels of streams write it: `2024-05-06T07:08:09.123`, UTC.
pub fn label_of(ms: u64) -> String {
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    // Civil date of a day number, by Howard Hinnant's published formulae: eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}")
}

/// `CreationRequestDateTime` of a stream.
pub fn created(stream: &Stream) -> Value {
    api_time(stream.created_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_dates() {
        assert_eq!(label_of(0), "1970-01-01T00:00:00.000");
        assert_eq!(label_of(951_782_400_123), "2000-02-29T00:00:00.123");
        assert_eq!(label_of(1_735_689_599_999), "2024-12-31T23:59:59.999");
        assert_eq!(label_of(1_735_689_600_000), "2025-01-01T00:00:00.000");
    }

    #[test]
    fn a_stream_that_is_enabled_again_is_another_one_and_the_old_one_is_known_for_a_day() {
        let mut streams = StreamSettings::default();
        streams.enable(StreamViewType::KeysOnly, 1_000);
        let first = streams.all[0];
        streams.disable(2_000);
        assert_eq!(streams.enabled(), None);
        streams.enable(StreamViewType::NewImage, 1_000);
        let second = *streams.enabled().unwrap();
        assert_ne!(first.label(), second.label(), "even if clocks go back");
        assert!(streams.with_label(&first.label()).is_some());
        streams.disable(3_000);
        streams.enable(StreamViewType::OldImage, 2_000 + STREAM_KEPT_MS);
        assert_eq!(streams.with_label(&first.label()), None, "a day later");
        assert!(streams.with_label(&second.label()).is_some());
    }

    #[test]
    fn what_is_wanted_of_a_change_follows_the_view() {
        let mut table = TableDefinition::default();
        assert_eq!(table.change_images(), None);
        for view in StreamViewType::ALL {
            table.streams = StreamSettings::default();
            table.streams.enable(view, 7);
            let wanted = ChangeImages {
                stream: 7,
                old_image: view.shows_old(),
            };
            assert_eq!(table.change_images(), Some(wanted));
            assert_eq!(StreamViewType::parse(view.as_str()), Some(view));
        }
        table.streams.disable(8);
        assert_eq!(table.change_images(), None);
    }
}
