//! Tags: the shapes and the validation of what names them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use model::ApiError;
use serde::Deserialize;

use crate::constraints::{Constraints, table_of};
use crate::texts;

/// Tags of a table.
const TAGS_MAX: usize = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Tag {
    key: Option<String>,
    value: Option<String>,
}

/// Body of TagResource, UntagResource and ListTagsOfResource.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Tagging {
    resource_arn: Option<String>,
    tags: Option<Vec<Tag>>,
    tag_keys: Option<Vec<String>>,
    #[allow(
        dead_code,
        reason = "everything fits into one page: any token means the end"
    )]
    next_token: Option<String>,
}

/// The table of a resource name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resource {
    pub(crate) arn: String,
    pub(crate) table: String,
}

impl Tagging {
    fn resource(&self) -> Result<Resource, ApiError> {
        let arn = self.resource_arn.clone().unwrap_or_default();
        let table = table_of(&arn).to_owned();
        if table == arn || table.is_empty() || table.contains(['/', ':']) {
            return Err(texts::bad_arn(&arn));
        }
        Ok(Resource { arn, table })
    }

    fn constrain(&self, tags: bool, keys: bool) -> Result<(), ApiError> {
        let mut constraints = Constraints::default();
        match &self.resource_arn {
            None => constraints.present("resourceArn", false),
            Some(arn) => constraints.length("resourceArn", arn, 1, 1283),
        }
        if tags {
            constraints.present("tags", self.tags.is_some());
            constrain_tags(&mut constraints, self.tags.as_deref());
        }
        if keys {
            constraints.present("tagKeys", self.tag_keys.is_some());
        }
        constraints.check()
    }

    pub(crate) fn list(self) -> Result<Resource, ApiError> {
        self.constrain(false, false)?;
        self.resource()
    }

    pub(crate) fn tag(self) -> Result<(Resource, BTreeMap<String, String>), ApiError> {
        self.constrain(true, false)?;
        let resource = self.resource()?;
        let new = tags(self.tags.unwrap_or_default())?;
        if new.is_empty() {
            return Err(texts::no_tags());
        }
        Ok((resource, new))
    }

    pub(crate) fn untag(self) -> Result<(Resource, BTreeSet<String>), ApiError> {
        self.constrain(false, true)?;
        let resource = self.resource()?;
        let keys: BTreeSet<String> = self.tag_keys.unwrap_or_default().into_iter().collect();
        if keys.is_empty() {
            return Err(texts::no_tag_keys());
        }
        Ok((resource, keys))
    }
}

/// Refuses a table with too many tags.
pub(crate) fn check_tag_count(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if tags.len() > TAGS_MAX {
        Err(texts::too_many_tags())
    } else {
        Ok(())
    }
}

/// A list of tags.
pub(crate) fn constrain_tags(constraints: &mut Constraints, tags: Option<&[Tag]>) {
    for (n, tag) in tags.unwrap_or_default().iter().enumerate() {
        let member = |field: &str| format!("tags.{}.member.{field}", n + 1);
        match &tag.key {
            None => constraints.present(&member("key"), false),
            Some(key) => constraints.length(&member("key"), key, 1, 128),
        }
        match &tag.value {
            None => constraints.present(&member("value"), false),
            Some(value) => constraints.length(&member("value"), value, 0, 256),
        }
    }
}

/// The tags of a request: unique, not reserved, not too many.
pub(crate) fn tags(list: Vec<Tag>) -> Result<BTreeMap<String, String>, ApiError> {
    let count = list.len();
    let tags: BTreeMap<String, String> = list
        .into_iter()
        .map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))
        .collect();
    if tags.len() != count {
        return Err(texts::duplicate_tags());
    }
    if tags
        .keys()
        .any(|key| key.to_ascii_lowercase().starts_with("aws:"))
    {
        return Err(texts::reserved_tag());
    }
    check_tag_count(&tags)?;
    Ok(tags)
}
