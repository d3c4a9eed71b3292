//! Constraints that the API model puts on members of a request. All that are broken are told in one answer, at most ten.

use model::ApiError;

/// Most errors that one answer tells.
const ERRORS_MAX: usize = 10;
/// Longest value that is shown back, bytes.
const SHOWN_BYTES_MAX: usize = 4096;

/// Collects broken constraints.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    texts: Vec<String>,
    /// Of the members that are looked at: they belong to a member with this name.
    within: Option<&'static str>,
}

impl Constraints {
    /// Looks at the members of a member.
    pub(crate) fn within(&mut self, member: &'static str, look: impl FnOnce(&mut Self)) {
        let outer = self.within.replace(member);
        look(self);
        self.within = outer;
    }

    fn path(&self, member: &str) -> String {
        match self.within {
            None => member.to_owned(),
            Some(outer) => format!("{outer}.{member}"),
        }
    }

    fn broken(&mut self, value: &str, member: &str, rule: &str) {
        let member = self.path(member);
        let mut end = value.len().min(SHOWN_BYTES_MAX);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = &value[..end];
        self.texts.push(format!(
            "Value '{value}' at '{member}' failed to satisfy constraint: {rule}"
        ));
    }

    /// A member that must be there.
    pub(crate) fn present(&mut self, member: &str, present: bool) {
        if !present {
            let member = self.path(member);
            self.texts.push(format!(
                "Value null at '{member}' failed to satisfy constraint: Member must not be null"
            ));
        }
    }

    /// `TableName`: there, of the right characters and length.
    pub(crate) fn table_name(&mut self, name: Option<&str>) {
        let Some(name) = name else {
            return self.present("tableName", false);
        };
        self.name("tableName", table_of(name));
    }

    /// A name of the right characters and length.
    pub(crate) fn name(&mut self, member: &str, name: &str) {
        let right = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
        if name.is_empty() || !name.bytes().all(right) {
            let rule = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+";
            self.broken(name, member, rule);
        }
        self.length(member, name, 3, 255);
    }

    /// A text of a form; `pattern` is how the API model writes it.
    pub(crate) fn matches(&mut self, member: &str, text: &str, pattern: &str, right: bool) {
        if !right {
            let rule = format!("Member must satisfy regular expression pattern: {pattern}");
            self.broken(text, member, &rule);
        }
    }

    /// A text's length, both bounds inclusive.
    pub(crate) fn length(&mut self, member: &str, text: &str, min: usize, max: usize) {
        let length = text.chars().count();
        self.size(member, length, text, min, max);
    }

    /// A list's length, both bounds inclusive; `shown` is the list as text.
    pub(crate) fn size(
        &mut self,
        member: &str,
        length: usize,
        shown: &str,
        min: usize,
        max: usize,
    ) {
        if length < min {
            let rule = format!("Member must have length greater than or equal to {min}");
            self.broken(shown, member, &rule);
        }
        if length > max {
            let rule = format!("Member must have length less than or equal to {max}");
            self.broken(shown, member, &rule);
        }
    }

    /// A word of a set.
    pub(crate) fn one_of(&mut self, member: &str, value: Option<&str>, set: &[&str]) {
        if let Some(value) = value
            && !set.contains(&value)
        {
            let rule = format!("Member must satisfy enum value set: [{}]", set.join(", "));
            self.broken(value, member, &rule);
        }
    }

    /// A number's bounds, both inclusive.
    pub(crate) fn between(&mut self, member: &str, value: Option<i64>, min: i64, max: i64) {
        let Some(value) = value else { return };
        if value < min {
            let rule = format!("Member must have value greater than or equal to {min}");
            self.broken(&value.to_string(), member, &rule);
        }
        if value > max {
            let rule = format!("Member must have value less than or equal to {max}");
            self.broken(&value.to_string(), member, &rule);
        }
    }

    /// The ValidationException, if anything is broken.
    pub(crate) fn check(mut self) -> Result<(), ApiError> {
        self.texts.truncate(ERRORS_MAX);
        let count = self.texts.len();
        if count == 0 {
            return Ok(());
        }
        let plural = if count == 1 { "" } else { "s" };
        let texts = self.texts.join("; ");
        Err(ApiError::validation(format!(
            "{count} validation error{plural} detected: {texts}"
        )))
    }
}

/// The name of a table that may be given as its Amazon Resource Name.
pub(crate) fn table_of(name: &str) -> &str {
    match name.split_once(":table/") {
        Some((start, table)) if start.starts_with("arn:") => table,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(constraints: Constraints) -> String {
        constraints.check().unwrap_err().message
    }

    #[test]
    fn tells_all_that_is_broken_at_once() {
        let mut constraints = Constraints::default();
        constraints.table_name(Some("a!"));
        assert_eq!(
            message(constraints),
            "2 validation errors detected: Value 'a!' at 'tableName' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: [a-zA-Z0-9_.-]+; Value 'a!' at 'tableName' failed to satisfy constraint: Member \
             must have length greater than or equal to 3"
        );
        let mut constraints = Constraints::default();
        constraints.table_name(None);
        assert_eq!(
            message(constraints),
            "1 validation error detected: Value null at 'tableName' failed to satisfy constraint: Member must not be null"
        );
    }

    #[test]
    fn an_arn_counts_as_its_table_name() {
        assert_eq!(table_of("arn:aws:dynamodb:eu-1:1:table/music"), "music");
        assert_eq!(table_of("music"), "music");
        let mut constraints = Constraints::default();
        constraints.table_name(Some("arn:aws:dynamodb:eu-1:1:table/music"));
        assert_eq!(constraints.check(), Ok(()));
    }

    #[test]
    fn bounds_are_inclusive_and_long_values_are_cut() {
        let mut constraints = Constraints::default();
        constraints.between("limit", Some(1), 1, 100);
        constraints.between("limit", Some(100), 1, 100);
        constraints.one_of("keyType", Some("HASH"), &["HASH", "RANGE"]);
        assert_eq!(constraints.check(), Ok(()));
        let mut constraints = Constraints::default();
        constraints.name("tableName", &"é".repeat(10_000));
        assert!(message(constraints).len() < 12_000);
    }
}
