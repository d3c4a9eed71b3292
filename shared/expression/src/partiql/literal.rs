//! Values in statements: literals, lists, maps, sets and parameters.

use model::value::NESTING_LEVELS_MAX;
use model::{ApiError, AttributeValue, Item, Number};

use super::lexer::Token;
use super::parser::Parser;
use super::texts;

impl Parser {
    /// A value, if one begins here.
    pub(super) fn value(&mut self) -> Result<Option<AttributeValue>, ApiError> {
        self.value_at(NESTING_LEVELS_MAX)
    }

    /// A value, which must begin here.
    pub(super) fn expected_value(&mut self) -> Result<AttributeValue, ApiError> {
        match self.value()? {
            Some(value) => Ok(value),
            None => Err(self.unexpected()),
        }
    }

    fn value_at(&mut self, levels: usize) -> Result<Option<AttributeValue>, ApiError> {
        if levels == 0 {
            return Err(texts::malformed(texts::TOO_NESTED));
        }
        let value = match self.peek().clone() {
            Token::Text(text) => AttributeValue::S(text),
            Token::Number(digits) => number(&digits)?,
            Token::Sign(sign @ ("-" | "+")) if matches!(self.second(), Token::Number(_)) => {
                self.bump();
                let Token::Number(digits) = self.peek().clone() else {
                    return Err(self.unexpected());
                };
                let sign = if sign == "-" { "-" } else { "" };
                number(&format!("{sign}{digits}"))?
            }
            Token::Sign("?") => {
                let value = self.parameter()?;
                if !value.within_levels(levels) {
                    return Err(texts::malformed(texts::TOO_NESTED));
                }
                value
            }
            word if word.is("TRUE") => AttributeValue::Bool(true),
            word if word.is("FALSE") => AttributeValue::Bool(false),
            word if word.is("NULL") => AttributeValue::Null,
            Token::Sign("[") => {
                self.bump();
                return self.elements("]", levels).map(AttributeValue::L).map(Some);
            }
            Token::Sign("{") => {
                self.bump();
                return self.map(levels).map(AttributeValue::M).map(Some);
            }
            Token::Sign("<<") => {
                self.bump();
                let elements = self.elements(">>", levels)?;
                return set(elements).map(Some);
            }
            _ => return Ok(None),
        };
        self.bump();
        Ok(Some(value))
    }

    /// `value, value … close`, possibly none.
    pub(super) fn elements(
        &mut self,
        close: &'static str,
        levels: usize,
    ) -> Result<Vec<AttributeValue>, ApiError> {
        let mut elements = Vec::new();
        if self.take(close) {
            return Ok(elements);
        }
        loop {
            match self.value_at(levels - 1)? {
                Some(element) => elements.push(element),
                None => return Err(self.unexpected()),
            }
            if self.take(close) {
                return Ok(elements);
            }
            self.expect(",")?;
        }
    }

    fn map(&mut self, levels: usize) -> Result<Item, ApiError> {
        let mut map = Item::new();
        if self.take("}") {
            return Ok(map);
        }
        loop {
            let name = match self.peek().clone() {
                Token::Text(name) | Token::Quoted(name) => name,
                _ => return Err(self.unexpected()),
            };
            self.bump();
            self.expect(":")?;
            let Some(value) = self.value_at(levels - 1)? else {
                return Err(self.unexpected());
            };
            if map.insert(name.clone(), value).is_some() {
                return Err(texts::malformed(format!("'{name}' is there twice")));
            }
            if self.take("}") {
                return Ok(map);
            }
            self.expect(",")?;
        }
    }
}

fn number(digits: &str) -> Result<AttributeValue, ApiError> {
    let number: Number = digits
        .parse()
        .map_err(|error| ApiError::validation(model::error::texts::number(error, digits)))?;
    Ok(AttributeValue::N(number))
}

/// A set of strings, numbers or binaries, all of one type and no two alike.
fn set(elements: Vec<AttributeValue>) -> Result<AttributeValue, ApiError> {
    let mixed = || texts::malformed("A set holds values of one scalar type");
    fn sorted<T: Ord>(
        elements: impl Iterator<Item = Option<T>>,
        mixed: impl Fn() -> ApiError,
    ) -> Result<Vec<T>, ApiError> {
        let mut set: Vec<T> = elements.collect::<Option<_>>().ok_or_else(mixed)?;
        set.sort();
        if set.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ApiError::validation(model::error::texts::DUPLICATE_NUMBERS));
        }
        Ok(set)
    }
    match elements.first() {
        Some(AttributeValue::S(_)) => sorted(
            elements.into_iter().map(|element| match element {
                AttributeValue::S(text) => Some(text),
                _ => None,
            }),
            mixed,
        )
        .map(AttributeValue::StringSet),
        Some(AttributeValue::N(_)) => sorted(
            elements.into_iter().map(|element| match element {
                AttributeValue::N(number) => Some(number),
                _ => None,
            }),
            mixed,
        )
        .map(AttributeValue::NumberSet),
        Some(AttributeValue::B(_)) => sorted(
            elements.into_iter().map(|element| match element {
                AttributeValue::B(bytes) => Some(bytes),
                _ => None,
            }),
            mixed,
        )
        .map(AttributeValue::BinarySet),
        Some(_) => Err(mixed()),
        None => Err(ApiError::validation(model::error::texts::STRING_SET_EMPTY)),
    }
}
