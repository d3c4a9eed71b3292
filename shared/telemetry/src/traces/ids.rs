//! Trace and request ids. A request id is made of the ids of its trace and of the router's span, so it finds its trace without an index.

use std::cell::Cell;

use mesh::TraceContext;

/// Length of a request id, as DynamoDB's.
const REQUEST_ID_BYTES: usize = 52;
/// Characters that hold a trace id: five bits each.
const TRACE_CHARACTERS: usize = 26;
/// Characters that hold 64 bits.
const WORD_CHARACTERS: usize = 13;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";
/// First word of what splits are known by.
const SPLITS: u64 = u64::from_be_bytes(*b"split\0\0\0");

thread_local! {
    /// State of a splitmix64 sequence, seeded at random once a thread.
    static STATE: Cell<u64> = Cell::new(crate::incarnation());
}

/// A number for an id: unique, not secret. Never 0.
pub fn random_u64() -> u64 {
    STATE.with(|state| {
        let value = state.get();
        state.set(value.wrapping_add(0x9e37_79b9_7f4a_7c15));
        mixed(value)
    })
}

/// A step of splitmix64. Never 0.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (value ^ (value >> 31)).max(1)
}

/// The id of a new trace.
pub fn new_trace_id() -> u128 {
    u128::from(random_u64()) << 64 | u128::from(random_u64())
}

/// The context of a trace that is known by what it is about, so that whoever knows that can link to it without being told: the same words give the
/// same context.
pub fn context_named(words: [u64; 4]) -> TraceContext {
    let digest =
        |seed: u64| (words.iter()).fold(mixed(seed), |digest, word| mixed(digest ^ mixed(*word)));
    TraceContext {
        trace_id: u128::from(digest(1)) << 64 | u128::from(digest(2)),
        span_id: digest(3),
        sampled: true,
    }
}

/// The context of the split of partition `parent` into `left` and `right`: known to the admin that carries it out and to every replica of a child.
pub fn split_context(parent: u64, left: u64, right: u64) -> TraceContext {
    context_named([SPLITS, parent, left, right])
}

/// The request id of the request that is this span of this trace: 52 characters.
pub fn request_id(context: TraceContext) -> [u8; REQUEST_ID_BYTES] {
    let mut id = [0; REQUEST_ID_BYTES];
    let (trace, rest) = id.split_at_mut(TRACE_CHARACTERS);
    let (span, salt) = rest.split_at_mut(WORD_CHARACTERS);
    put(trace, context.trace_id);
    put(span, u128::from(context.span_id));
    put(salt, u128::from(random_u64()));
    id
}

/// The trace of the request with this id; none if it is not a request id.
pub fn trace_of_request_id(id: &str) -> Option<u128> {
    let id = id.trim().as_bytes();
    if id.len() != REQUEST_ID_BYTES || !id.iter().all(|character| ALPHABET.contains(character)) {
        return None;
    }
    // Two bits more than a trace id has.
    let first = ALPHABET.iter().position(|known| *known == id[0])?;
    if first > 7 {
        return None;
    }
    let digits = id[..TRACE_CHARACTERS].iter();
    let trace = digits.fold(0, |number: u128, character| {
        let digit = ALPHABET.iter().position(|known| known == character);
        number << 5 | digit.unwrap_or_default() as u128
    });
    (trace != 0).then_some(trace)
}

fn put(characters: &mut [u8], mut number: u128) {
    for character in characters.iter_mut().rev() {
        *character = ALPHABET[(number & 31) as usize];
        number >>= 5;
    }
}

/// The context in an `X-Amzn-Trace-Id` header (`Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`); its format is
/// Amazon's, from the developer guide of X-Ray. None if there is no root in it. A header without a parent gives the span id 0.
pub fn amazon_trace(header: &str) -> Option<TraceContext> {
    let mut context = TraceContext::default();
    for field in header.split(';') {
        let Some((name, value)) = field.trim().split_once('=') else {
            continue;
        };
        match name {
            "Root" => {
                let (seconds, random) = value.strip_prefix("1-")?.split_once('-')?;
                if seconds.len() != 8 || random.len() != 24 {
                    return None;
                }
                let high = u32::from_str_radix(seconds, 16).ok()?;
                let low = u128::from_str_radix(random, 16).ok()?;
                context.trace_id = u128::from(high) << 96 | low;
            }
            "Parent" if value.len() == 16 => {
                context.span_id = u64::from_str_radix(value, 16).ok()?;
            }
            "Sampled" => context.sampled = value == "1",
            _ => {}
        }
    }
    context.is_some().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_names_its_trace() {
        for trace_id in [1, u128::MAX, new_trace_id(), 1 << 127] {
            let context = TraceContext {
                trace_id,
                span_id: random_u64(),
                sampled: false,
            };
            let (one, two) = (request_id(context), request_id(context));
            assert_ne!(one, two);
            let text = std::str::from_utf8(&one).unwrap();
            assert!(
                text.bytes()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
            );
            assert_eq!(trace_of_request_id(text), Some(trace_id));
        }
        let of_another_service = "Z".repeat(52);
        let too_large = format!("8{}", "0".repeat(51));
        for wrong in ["", "ABC", &of_another_service, &too_large, &"0".repeat(52)] {
            assert_eq!(trace_of_request_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn whoever_knows_what_a_trace_is_about_knows_its_context() {
        let context = context_named([1, 2, 3, 4]);
        assert_eq!(context, context_named([1, 2, 3, 4]));
        assert!(context.is_some() && context.span_id != 0 && context.sampled);
        for others in [[1, 2, 4, 3], [0, 2, 3, 4], [1, 2, 3, 5], [0; 4]] {
            let other = context_named(others);
            assert_ne!(
                (context.trace_id, context.span_id),
                (other.trace_id, other.span_id)
            );
            assert!(other.is_some());
        }
    }

    #[test]
    fn amazons_header_is_read() {
        let header =
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=x";
        let context = amazon_trace(header).unwrap();
        assert_eq!(context.trace_id, 0x5759_e988_bd86_2e3f_e1be_46a9_9427_2793);
        assert_eq!(context.span_id, 0x5399_5c3f_42cd_8ad8);
        assert!(context.sampled);
        let context = amazon_trace("Root=1-5759e988-bd862e3fe1be46a994272793").unwrap();
        assert_eq!((context.span_id, context.sampled), (0, false));
        for wrong in [
            "",
            "Self=1",
            "Root=1-1-2",
            "Root=2-5759e988-bd862e3fe1be46a994272793",
        ] {
            assert_eq!(amazon_trace(wrong), None, "{wrong}");
        }
    }
}
