//! W3C trace context: which trace, and which span of it, a message belongs to. Owns the `traceparent` format; never decides what is kept.

use std::fmt;

/// Trace context of the request that is being served. Zero ids: there is none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; 0 = none.
    pub trace_id: u128,
    /// The span that caused this; 0 = none.
    pub span_id: u64,
    /// Whoever began the trace wants it kept.
    pub sampled: bool,
}

/// Bytes of a `traceparent` of version 00.
const TEXT_BYTES: usize = 55;

impl TraceContext {
    /// From a `traceparent` header; a value that is not one (W3C Trace Context, level 1) gives none.
    pub fn new(traceparent: &str) -> Self {
        Self::parse(traceparent.as_bytes()).unwrap_or_default()
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // Later versions may go on behind the flags.
        let long = text.len() > TEXT_BYTES;
        let dashes = text.len() >= TEXT_BYTES && [2, 35, 52].iter().all(|&at| text[at] == b'-');
        if !dashes || (long && (text.starts_with(b"00") || text[TEXT_BYTES] != b'-')) {
            return None;
        }
        let version = hex(&text[..2])?;
        let context = Self {
            trace_id: hex(&text[3..35])?,
            span_id: u64::try_from(hex(&text[36..52])?).ok()?,
            sampled: hex(&text[53..55])? & 1 == 1,
        };
        (version != 0xff && context.trace_id != 0 && context.span_id != 0).then_some(context)
    }

    /// As a `traceparent`, to be kept somewhere; empty if there is none. `new` reads it.
    pub fn traceparent(&self) -> String {
        let mut room = TraceParent::room();
        self.text(&mut room).unwrap_or_default().to_owned()
    }

    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.trace_id != 0
    }

    /// The same trace, caused by this span.
    pub fn within(self, span_id: u64) -> Self {
        Self { span_id, ..self }
    }

    /// As a `traceparent`, in `text`; none if there is no context.
    pub(crate) fn text<'a>(&self, text: &'a mut TraceParent) -> Option<&'a str> {
        if !self.is_some() {
            return None;
        }
        text.0 = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut text.0[3..35], self.trace_id);
        put_hex(&mut text.0[36..52], u128::from(self.span_id));
        text.0[54] = b'0' + u8::from(self.sampled);
        std::str::from_utf8(&text.0).ok()
    }
}

/// Room for a `traceparent`.
pub(crate) struct TraceParent([u8; TEXT_BYTES]);

impl TraceParent {
    pub(crate) fn room() -> Self {
        Self([0; TEXT_BYTES])
    }
}

/// Lower-case hexadecimal digits only, as the format wants it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

fn put_hex(digits: &mut [u8], mut number: u128) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = TraceParent::room();
        f.write_str(self.text(&mut room).unwrap_or("-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_written() {
        for text in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        ] {
            let context = TraceContext::new(text);
            assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
            assert_eq!(context.span_id, 0x00f0_67aa_0ba9_02b7);
            assert_eq!(context.sampled, text.ends_with('1'));
            assert_eq!(format!("{context:?}"), text);
            assert_eq!(context.traceparent(), text);
        }
        assert_eq!(TraceContext::default().traceparent(), "");
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(TraceContext::new(later).sampled);
    }

    #[test]
    fn what_is_none_is_dropped() {
        for text in [
            "",
            "00",
            "00-aa-bb-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b\u{fc}-01",
        ] {
            assert_eq!(TraceContext::new(text), TraceContext::default(), "{text}");
        }
        assert_eq!(TraceContext::default().text(&mut TraceParent::room()), None);
    }
}
