//! Promises: comparisons of numbers of the run, such as `p99(flushed) / p99(before) <= 1.2`. Owns their language; the numbers come from
//! whoever evaluates. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest promise, characters.
const LENGTH_MAX: usize = 1_000;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;

/// Gives the numbers.
pub trait Numbers {
    /// The value of `function(arguments)`; not a number when there is no data. An error says what is wrong with the names.
    fn value(&self, function: &str, arguments: &[String]) -> Result<f64, String>;
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Number(f64),
    Call(String, Vec<String>),
    Negative(Box<Term>),
    Binary(Box<Term>, char, Box<Term>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
}

impl Comparison {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
            Self::Equal => left == right,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Equal => "==",
        }
    }
}

/// A chain of comparisons.
#[derive(Clone, Debug, PartialEq)]
pub struct Promise {
    text: String,
    first: Term,
    rest: Vec<(Comparison, Term)>,
}

/// What became of a promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// All comparisons hold.
    pub held: bool,
    /// The comparison with its numbers: `1.07 <= 1.2`.
    pub numbers: String,
}

impl Promise {
    /// Evaluates. Without data nothing holds.
    pub fn judge(&self, numbers: &impl Numbers) -> Result<Verdict, String> {
        let mut left = value(&self.first, numbers)?;
        let mut text = shown(left);
        let mut held = true;
        for (comparison, term) in &self.rest {
            let right = value(term, numbers)?;
            held &= comparison.holds(left, right);
            text += &format!(" {} {}", comparison.word(), shown(right));
            left = right;
        }
        Ok(Verdict {
            held,
            numbers: text,
        })
    }
}

/// Four significant digits are enough for people.
fn shown(value: f64) -> String {
    if value.is_nan() {
        return "no data".into();
    }
    if value == value.trunc() && value.abs() < 1e15 {
        return format!("{value}");
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn value(term: &Term, numbers: &impl Numbers) -> Result<f64, String> {
    Ok(match term {
        Term::Number(number) => *number,
        Term::Call(function, arguments) => numbers.value(function, arguments)?,
        Term::Negative(term) => -value(term, numbers)?,
        Term::Binary(left, operator, right) => {
            let (left, right) = (value(left, numbers)?, value(right, numbers)?);
            match operator {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                // Neither "nothing of nothing" nor "infinitely much" is an answer.
                _ if right == 0.0 => f64::NAN,
                _ => left / right,
            }
        }
    })
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn skip(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        // Longer ones first.
        [
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("==", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ]
        .into_iter()
        .find(|(token, _)| self.skip(token))
        .map(|(_, comparison)| comparison)
    }

    fn sum(&mut self) -> Result<Term, String> {
        let mut left = self.product()?;
        while let Some(operator) = self.operator(['+', '-']) {
            left = Term::Binary(left.into(), operator, self.product()?.into());
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Term, String> {
        let mut left = self.factor()?;
        while let Some(operator) = self.operator(['*', '/']) {
            left = Term::Binary(left.into(), operator, self.factor()?.into());
        }
        Ok(left)
    }

    fn operator(&mut self, of: [char; 2]) -> Option<char> {
        of.into_iter()
            .find(|one| self.skip(one.encode_utf8(&mut [0; 4])))
    }

    fn factor(&mut self) -> Result<Term, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("nested too deeply".into());
        }
        let term = if self.skip("(") {
            let inner = self.sum()?;
            self.expect(")")?;
            inner
        } else if self.skip("-") {
            Term::Negative(self.factor()?.into())
        } else if self
            .rest
            .starts_with(|c: char| c.is_ascii_digit() || c == '.')
        {
            let text = self.word(|c| c.is_ascii_digit() || c == '.' || c == '_');
            let digits = text.replace('_', "");
            Term::Number(
                digits
                    .parse()
                    .map_err(|_| format!("\"{text}\" is not a number"))?,
            )
        } else {
            let function = self.name()?;
            self.expect("(")?;
            let mut arguments = Vec::new();
            while !self.skip(")") {
                if !arguments.is_empty() {
                    self.expect(",")?;
                }
                arguments.push(self.name()?);
            }
            Term::Call(function, arguments)
        };
        self.depth -= 1;
        Ok(term)
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn name(&mut self) -> Result<String, String> {
        let word = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
        match word {
            "" => Err(self.found("a name")),
            word => Ok(word.to_owned()),
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        match self.skip(token) {
            true => Ok(()),
            false => Err(self.found(&format!("\"{token}\""))),
        }
    }

    fn found(&self, expected: &str) -> String {
        match self.rest.trim_start() {
            "" => format!("{expected} is missing at the end"),
            rest => format!("{expected} is missing before \"{rest}\""),
        }
    }
}

impl FromStr for Promise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("a promise has at most {LENGTH_MAX} characters"));
        }
        let mut parser = Parser {
            rest: text,
            depth: 0,
        };
        parser.skip("");
        let first = parser.sum()?;
        let mut rest = Vec::new();
        while let Some(comparison) = parser.comparison() {
            parser.skip("");
            rest.push((comparison, parser.sum()?));
        }
        if !parser.rest.trim().is_empty() || rest.is_empty() {
            return Err(parser.found("a comparison (<=, <, >=, >, ==)"));
        }
        Ok(Self {
            text: text.trim().to_owned(),
            first,
            rest,
        })
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Promise {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| {
            serde::de::Error::custom(format!("the promise \"{text}\" can't be read: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Fixed;

    impl Numbers for Fixed {
        fn value(&self, function: &str, arguments: &[String]) -> Result<f64, String> {
            match (function, arguments) {
                ("p99", [phase]) if phase == "before" => Ok(10.0),
                ("p99", [phase]) if phase == "after" => Ok(11.5),
                ("errors", []) => Ok(0.0),
                ("nothing", []) => Ok(f64::NAN),
                _ => Err(format!("{function} is not known")),
            }
        }
    }

    fn judge(text: &str) -> Result<Verdict, String> {
        text.parse::<Promise>()?.judge(&Fixed)
    }

    #[test]
    fn comparisons_hold_or_not() {
        let held = judge("p99(after) / p99(before) <= 1.2").unwrap();
        assert_eq!((held.held, held.numbers.as_str()), (true, "1.15 <= 1.2"));
        let broken = judge("p99(after) <= 1.1 * p99(before)").unwrap();
        assert_eq!(
            (broken.held, broken.numbers.as_str()),
            (false, "11.5 <= 11")
        );
        for text in [
            "errors() == 0",
            "0.98 <= p99(after) / p99(before) < 1.151",
            "2 + 3 * 4 == 14",
            "(2 + 3) * 4 == 20",
            "-p99(before) >= -10",
            "10 - 2 - 3 == 5",
            "1_000 > 999.5",
            " 8 / 2 / 2==2 ",
        ] {
            assert!(judge(text).unwrap().held, "{text}");
        }
        for text in [
            "0.98 <= p99(after) / p99(before) <= 1.1",
            "errors() > 0",
            "nothing() <= 1",
            "nothing() >= 1",
            "1 / errors() > 0",
        ] {
            assert!(!judge(text).unwrap().held, "{text}");
        }
        assert_eq!(judge("nothing() <= 1").unwrap().numbers, "no data <= 1");
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (text, why) in [
            ("", "missing"),
            ("1", "comparison"),
            ("p99(a <= 1", "\",\""),
            ("1 <= ", "missing"),
            ("1 <= 2 3", "comparison"),
            ("p99 <= 1", "\"(\""),
            ("1.2.3 < 4", "not a number"),
            ("foo() < 1", "not known"),
            ("(1 < 2)", "\")\""),
        ] {
            let error = judge(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(
            judge(&format!("{}1 < 2", "-".repeat(500)))
                .unwrap_err()
                .contains("deeply")
        );
        assert!("1<2".repeat(1_000).parse::<Promise>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9()+*/<>=., _-]{0,40}") {
            let _ = judge(&text);
        }
    }
}
