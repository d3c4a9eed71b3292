//! How a SELECT names what it answers: a path by its last name, so `SELECT a.b[0]` has `b`, a list. Storage nodes give the paths in their nesting,
//! as a ProjectionExpression does. Pure.

use bytes::Bytes;
use expression::{Path, Projection, Step};
use model::codec::{decode_item, encode_item};
use model::{ApiError, AttributeValue, Item};

use crate::texts;

/// The answer's item, from one that was projected.
pub(in crate::operations) fn columns(
    projection: &Projection,
    item: Bytes,
) -> Result<Bytes, ApiError> {
    if !projection.paths().iter().any(has_parent) {
        return Ok(item);
    }
    let item = decode_item(&item).map_err(|error| texts::internal(error.to_string()))?;
    Ok(encode_item(&named(projection.paths(), &item)))
}

fn has_parent(path: &Path) -> bool {
    column(path).0 > 0
}

/// Where the path's last name is among its steps, and that name.
fn column(path: &Path) -> (usize, &str) {
    let steps = path.steps().iter().enumerate().rev();
    let mut names = steps.filter_map(|(at, step)| match step {
        Step::Name(name) => Some((at, name.as_str())),
        Step::Index(_) => None,
    });
    names.next().unwrap_or((0, path.head()))
}

fn named(paths: &[Path], item: &Item) -> Item {
    let mut columns = Item::new();
    for path in paths {
        let (at, name) = column(path);
        match parent(paths, &path.steps()[..at], item) {
            Ok(Some(map)) => {
                columns.extend(map.get(name).map(|value| (name.to_owned(), value.clone())));
            }
            Ok(None) => {}
            // Which element that is cannot be told any more: it stays where it is.
            Err(()) => {
                let head = path.head();
                columns.extend(item.get(head).map(|value| (head.to_owned(), value.clone())));
            }
        }
    }
    columns
}

/// The map in which a path's last name is. In a list that was projected the wanted elements have moved together; an error: not all are there.
fn parent<'i>(paths: &[Path], steps: &[Step], item: &'i Item) -> Result<Option<&'i Item>, ()> {
    let mut map = item;
    let mut list: Option<&[AttributeValue]> = None;
    for (at, step) in steps.iter().enumerate() {
        let value = match (step, list) {
            (Step::Name(name), None) => map.get(name),
            (Step::Index(index), Some(elements)) => {
                let before = &steps[..at];
                let siblings = paths.iter().filter(|path| path.steps().starts_with(before));
                let mut wanted: Vec<&Step> = siblings.filter_map(|p| p.steps().get(at)).collect();
                wanted.dedup();
                if wanted.len() > 1 && wanted.len() != elements.len() {
                    return Err(());
                }
                let smaller = wanted.iter().filter(|other| ***other < Step::Index(*index));
                elements.get(smaller.count())
            }
            _ => None,
        };
        match value {
            Some(AttributeValue::M(inner)) => (map, list) = (inner, None),
            Some(AttributeValue::L(elements)) => list = Some(elements),
            _ => return Ok(None),
        }
    }
    Ok(list.is_none().then_some(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Item {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let members = value.as_object().expect("a map").clone();
        members.into_iter().map(|(name, v)| (name, of(v))).collect()
    }

    fn of(value: serde_json::Value) -> AttributeValue {
        match value {
            serde_json::Value::Object(map) => {
                AttributeValue::M(map.into_iter().map(|(name, v)| (name, of(v))).collect())
            }
            serde_json::Value::Array(list) => AttributeValue::L(list.into_iter().map(of).collect()),
            other => AttributeValue::S(other.as_str().expect("a string").to_owned()),
        }
    }

    fn selected(paths: &str, whole: &str) -> Item {
        let text = format!("SELECT {paths} FROM t");
        let Ok(expression::partiql::Statement::Select(select)) =
            expression::partiql::parse(&text, Vec::new())
        else {
            panic!("not a SELECT");
        };
        let projection = select.projection.expect("paths");
        let projected = encode_item(&projection.apply(&item(whole)));
        decode_item(&columns(&projection, projected).expect("encoded")).expect("encoded")
    }

    #[test]
    fn a_path_is_called_by_its_last_name() {
        let whole =
            r#"{"a": {"b": ["0", "1", "2"], "c": "c"}, "l": [{"x": "0"}, {"x": "1"}], "s": "s"}"#;
        for (paths, answer) in [
            (
                "s, a",
                r#"{"s": "s", "a": {"b": ["0", "1", "2"], "c": "c"}}"#,
            ),
            ("a.b", r#"{"b": ["0", "1", "2"]}"#),
            ("a.b[1]", r#"{"b": ["1"]}"#),
            (
                "a.b[2], a.b[0], a.c, s",
                r#"{"b": ["0", "2"], "c": "c", "s": "s"}"#,
            ),
            ("l[1].x", r#"{"x": "1"}"#),
            ("l[1]", r#"{"l": [{"x": "1"}]}"#),
            ("l[7].x, a.nothing, nothing.at.all", "{}"),
            // The last of its name is it.
            ("l[0].x, l[1].x", r#"{"x": "1"}"#),
            // One of the two is not there, and which is not known.
            ("l[1].x, l[7].x", r#"{"l": [{"x": "1"}]}"#),
        ] {
            assert_eq!(selected(paths, whole), item(answer), "{paths}");
        }
    }
}
