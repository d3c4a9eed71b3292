//! Who may give orders from the console: whoever knows the operator's token. Wrong ones are counted, so that nobody can try them all. Pure: time is
//! an input.

use sha2::{Digest, Sha256};

/// Wrong tokens in a while …
const WRONG_MAX: u32 = 10;
/// … of so many milliseconds.
const WHILE_MS: u64 = 30_000;

/// Why an order is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody may give any.
    ReadOnly,
    /// No token, or a wrong one.
    Wrong,
    /// Too many wrong ones lately, whoever sent them.
    TooMany,
}

/// Looks at tokens.
#[derive(Debug)]
pub(super) struct Doorman {
    /// Of the right token. Digests are compared, so that the time it takes says nothing of the token.
    digest: Option<[u8; 32]>,
    wrong: u32,
    since_ms: u64,
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Doorman {
    pub(super) fn new(token: &str) -> Self {
        Self {
            digest: (!token.is_empty()).then(|| digest(token)),
            wrong: 0,
            since_ms: 0,
        }
    }

    pub(super) fn admit(&mut self, token: Option<&str>, now_ms: u64) -> Result<(), Refusal> {
        let right = self.digest.ok_or(Refusal::ReadOnly)?;
        if now_ms.saturating_sub(self.since_ms) >= WHILE_MS {
            (self.wrong, self.since_ms) = (0, now_ms);
        }
        if self.wrong >= WRONG_MAX {
            return Err(Refusal::TooMany);
        }
        if token.is_some_and(|token| digest(token) == right) {
            return Ok(());
        }
        // Who sends none does not guess.
        self.wrong += u32::from(token.is_some());
        Err(Refusal::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let mut doorman = Doorman::new("open sesame");
        assert_eq!(doorman.admit(Some("open sesame"), 0), Ok(()));
        assert_eq!(doorman.admit(Some("open barley"), 0), Err(Refusal::Wrong));
        assert_eq!(doorman.admit(Some(""), 0), Err(Refusal::Wrong));
        assert_eq!(doorman.admit(None, 0), Err(Refusal::Wrong));
        let mut nobodys = Doorman::new("");
        assert_eq!(nobodys.admit(Some(""), 0), Err(Refusal::ReadOnly));
    }

    #[test]
    fn guessing_is_slow() {
        let mut doorman = Doorman::new("open sesame");
        for _ in 0..WRONG_MAX {
            assert_eq!(doorman.admit(None, 40_000), Err(Refusal::Wrong));
            assert_eq!(doorman.admit(Some("a"), 40_000), Err(Refusal::Wrong));
        }
        assert_eq!(
            doorman.admit(Some("open sesame"), 50_000),
            Err(Refusal::TooMany)
        );
        let later = 40_000 + WHILE_MS;
        assert_eq!(doorman.admit(Some("open sesame"), later), Ok(()));
    }
}
