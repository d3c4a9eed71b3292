//! Text to tokens. Owns what words, strings and numbers look like; knows no grammar.

use model::ApiError;

use super::texts;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A bare word: keyword or name.
    Word(String),
    /// `"name"`.
    Quoted(String),
    /// `'text'`.
    Text(String),
    /// A number as written, without sign.
    Number(String),
    /// Anything else: `<=`, `,`, `<<` …
    Sign(&'static str),
    End,
}

impl Token {
    /// As an error shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Word(text) | Self::Number(text) => text.clone(),
            Self::Quoted(name) => format!("\"{name}\""),
            Self::Text(text) => format!("'{text}'"),
            Self::Sign(sign) => (*sign).to_owned(),
            Self::End => String::new(),
        }
    }

    /// Whether it is this keyword, in any case.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// Longest first.
const SIGNS: [&str; 23] = [
    "<<", ">>", "<=", ">=", "<>", "!=", "(", ")", "[", "]", "{", "}", ",", ".", ":", ";", "=", "<",
    ">", "+", "-", "*", "?",
];

/// All tokens of a statement; `End` is not among them.
pub(super) fn tokenize(text: &str) -> Result<Vec<Token>, ApiError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = behind_comments(rest)?;
        let Some(first) = rest.chars().next() else {
            return Ok(tokens);
        };
        let (token, length) = match first {
            '"' => {
                let (name, length) = quoted(rest, '"')?;
                (Token::Quoted(name), length)
            }
            '\'' => {
                let (text, length) = quoted(rest, '\'')?;
                (Token::Text(text), length)
            }
            '0'..='9' => {
                let length = number_length(rest);
                (Token::Number(rest[..length].to_owned()), length)
            }
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) && !after_name(&tokens) => {
                let length = number_length(rest);
                (Token::Number(rest[..length].to_owned()), length)
            }
            _ if is_word(first) => {
                let length = rest
                    .find(|c: char| !is_word(c) && !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                (Token::Word(rest[..length].to_owned()), length)
            }
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Token::Sign(sign), sign.len()),
                // The service says no more of what it cannot read.
                None => return Err(texts::malformed("")),
            },
        };
        tokens.push(token);
        rest = &rest[length..];
    }
}

/// The text behind white space, `-- …` to the end of the line, and `/* … */`.
fn behind_comments(text: &str) -> Result<&str, ApiError> {
    let mut rest = text.trim_start();
    loop {
        let comment = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(inside) = rest.strip_prefix("/*") {
            let end = inside.find("*/").ok_or_else(|| texts::malformed(""))?;
            end + 4
        } else {
            return Ok(rest);
        };
        rest = rest[comment..].trim_start();
    }
}

/// Whether a dot that comes next continues a path.
fn after_name(tokens: &[Token]) -> bool {
    matches!(
        tokens.last(),
        Some(Token::Word(_) | Token::Quoted(_) | Token::Sign("]"))
    )
}

fn is_word(c: char) -> bool {
    c == '_' || c == '$' || c.is_alphabetic()
}

/// What stands between quotation marks (doubled ones stand for one), and how long that is with them.
fn quoted(text: &str, mark: char) -> Result<(String, usize), ApiError> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c != mark {
            value.push(c);
        } else if characters.peek().is_some_and(|(_, next)| *next == mark) {
            value.push(mark);
            characters.next();
        } else {
            return Ok((value, at + mark.len_utf8()));
        }
    }
    Err(texts::malformed(format!("{mark} is not closed")))
}

/// `12`, `1.5`, `.5`, `1e-3`.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}
