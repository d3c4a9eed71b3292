//! Text to tokens. Owns what a token is; knows nothing of grammar. Every text gives tokens: what DynamoDB does not know becomes a
//! `Bad` token, which no grammar rule accepts.

/// Kind of a token. Keywords are the same in all expressions, whatever their case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Attribute or function name.
    Word,
    /// `#name`.
    NamePlaceholder,
    /// `:value`.
    ValuePlaceholder,
    /// List index, without leading zeros.
    Integer,
    Open,
    Close,
    OpenBracket,
    CloseBracket,
    Comma,
    Dot,
    Plus,
    Minus,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Not,
    Between,
    In,
    Set,
    Remove,
    Add,
    Delete,
    Bad,
    End,
}

/// A token: its kind and its bytes in the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Token {
    /// The token's text.
    pub(crate) fn text<'t>(&self, text: &'t str) -> &'t str {
        if self.kind == Kind::End {
            return "<EOF>";
        }
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// All tokens of a text, an `End` last. The caller has bounded the text's length.
pub(crate) fn tokenize(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::with_capacity(text.len() / 3 + 2);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        let second = bytes.get(at).copied();
        let kind = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'a'..=b'z' | b'A'..=b'Z' => {
                at = word_end(bytes, at);
                keyword(&bytes[start..at]).unwrap_or(Kind::Word)
            }
            b'#' | b':' => {
                at = word_end(bytes, at);
                match (at - start, byte) {
                    (1, _) => Kind::Bad,
                    (_, b'#') => Kind::NamePlaceholder,
                    _ => Kind::ValuePlaceholder,
                }
            }
            b'0' => Kind::Integer,
            b'1'..=b'9' => {
                while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                    at += 1;
                }
                Kind::Integer
            }
            b'(' => Kind::Open,
            b')' => Kind::Close,
            b'[' => Kind::OpenBracket,
            b']' => Kind::CloseBracket,
            b',' => Kind::Comma,
            b'.' => Kind::Dot,
            b'+' => Kind::Plus,
            b'-' => Kind::Minus,
            b'=' => Kind::Equal,
            b'<' | b'>' => {
                let kind = match (byte, second) {
                    (b'<', Some(b'>')) => Kind::NotEqual,
                    (b'<', Some(b'=')) => Kind::LessOrEqual,
                    (b'>', Some(b'=')) => Kind::GreaterOrEqual,
                    (b'<', _) => Kind::Less,
                    _ => Kind::Greater,
                };
                if !matches!(kind, Kind::Less | Kind::Greater) {
                    at += 1;
                }
                kind
            }
            _ => {
                // one whole character, so that token texts are cut at character boundaries
                while at < bytes.len() && !text.is_char_boundary(at) {
                    at += 1;
                }
                Kind::Bad
            }
        };
        tokens.push(Token {
            kind,
            start: start as u32,
            end: at as u32,
        });
    }
    tokens.push(Token {
        kind: Kind::End,
        start: text.len() as u32,
        end: text.len() as u32,
    });
    tokens
}

fn word_end(bytes: &[u8], mut at: usize) -> usize {
    while bytes
        .get(at)
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        at += 1;
    }
    at
}

fn keyword(word: &[u8]) -> Option<Kind> {
    const KEYWORDS: [(&[u8], Kind); 9] = [
        (b"AND", Kind::And),
        (b"OR", Kind::Or),
        (b"NOT", Kind::Not),
        (b"BETWEEN", Kind::Between),
        (b"IN", Kind::In),
        (b"SET", Kind::Set),
        (b"REMOVE", Kind::Remove),
        (b"ADD", Kind::Add),
        (b"DELETE", Kind::Delete),
    ];
    KEYWORDS
        .iter()
        .find(|(keyword, _)| keyword.eq_ignore_ascii_case(word))
        .map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokenize(text).iter().map(|token| token.kind).collect()
    }

    #[test]
    fn tokens_of_all_kinds() {
        use Kind::*;
        assert_eq!(
            kinds("a.#b[10]<>:c"),
            [
                Word,
                Dot,
                NamePlaceholder,
                OpenBracket,
                Integer,
                CloseBracket,
                NotEqual,
                ValuePlaceholder,
                End
            ]
        );
        assert_eq!(
            kinds("sEt Remove ADD dElete"),
            [Set, Remove, Add, Delete, End]
        );
        assert_eq!(
            kinds("and OR nOt between In"),
            [And, Or, Not, Between, In, End]
        );
        assert_eq!(
            kinds("<<=>>="),
            [Less, LessOrEqual, Greater, GreaterOrEqual, End]
        );
        assert_eq!(kinds("\t01\r\n"), [Integer, Integer, End]);
        assert_eq!(kinds("_a # : ! é"), [Bad, Word, Bad, Bad, Bad, Bad, End]);
        assert_eq!(kinds("andy in_ set1"), [Word, Word, Word, End]);
    }

    proptest! {
        #[test]
        fn tokens_cover_the_text(text in "\\PC{0,40}") {
            let tokens = tokenize(&text);
            let mut at = 0;
            for token in &tokens {
                let gap = &text[at..token.start as usize];
                prop_assert!(gap.chars().all(|c| " \t\r\n".contains(c)), "{gap:?}");
                at = token.end as usize;
            }
            prop_assert_eq!(at, text.len());
        }
    }
}
