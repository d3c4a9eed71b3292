//! Numbers: parsing, text, arithmetic, order, binary form.

mod values;

use std::cmp::Ordering;

use model::Number;
use model::number::NumberError;
use proptest::prelude::*;
use values::{number, number_text};

fn parsed(text: &str) -> Number {
    Number::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn encoded(number: &Number) -> Vec<u8> {
    let mut out = Vec::new();
    number.encode_into(&mut out);
    out
}

#[test]
fn text_is_normalised() {
    for (given, normal) in [
        ("0", "0"),
        ("-0", "0"),
        ("0e999999999", "0"),
        ("0.000", "0"),
        ("1", "1"),
        ("+7", "7"),
        ("00042", "42"),
        ("0042.1200", "42.12"),
        ("1.0", "1"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1.5E2", "150"),
        ("-1.5e-2", "-0.015"),
        ("100", "100"),
        ("1e2", "100"),
        ("100.50", "100.5"),
        ("1e000000000000000000000000000003", "1000"),
        (
            "12345678901234567890123456789012345678",
            "12345678901234567890123456789012345678",
        ),
        (
            "12345678901234567890123456789012345678000",
            "12345678901234567890123456789012345678000",
        ),
        ("18446744073709551616", "18446744073709551616"),
        ("1234567890123456789.5", "1234567890123456789.5"),
    ] {
        assert_eq!(parsed(given).to_string(), normal, "{given}");
    }
    assert_eq!(parsed("1E125").to_string(), format!("1{}", "0".repeat(125)));
    assert_eq!(
        parsed("1E-130").to_string(),
        format!("0.{}1", "0".repeat(129))
    );
    let nines = "9".repeat(38);
    assert_eq!(
        parsed(&format!("-{nines}E88")).to_string(),
        format!("-{nines}{}", "0".repeat(88))
    );
    assert_eq!(
        format!("{:>5}|{:<4}", parsed("12"), parsed("-3")),
        "   12|-3  "
    );
}

#[test]
fn texts_that_are_no_numbers_are_refused() {
    let long = "9".repeat(39);
    let spread = format!("1{}1", "0".repeat(38));
    for (text, error) in [
        ("", NumberError::Malformed),
        ("-", NumberError::Malformed),
        (".", NumberError::Malformed),
        ("abc", NumberError::Malformed),
        (" 1", NumberError::Malformed),
        ("1 ", NumberError::Malformed),
        ("1e", NumberError::Malformed),
        ("1e+", NumberError::Malformed),
        ("e5", NumberError::Malformed),
        ("1.2.3", NumberError::Malformed),
        ("--1", NumberError::Malformed),
        ("0x10", NumberError::Malformed),
        ("NaN", NumberError::Malformed),
        ("Infinity", NumberError::Malformed),
        ("1_000", NumberError::Malformed),
        ("１", NumberError::Malformed),
        ("1e99999999999", NumberError::Malformed),
        ("1e126", NumberError::Overflow),
        ("-1e126", NumberError::Overflow),
        ("1e999999999", NumberError::Overflow),
        ("1e2147483647", NumberError::Overflow),
        ("1e-131", NumberError::Underflow),
        ("-1e-131", NumberError::Underflow),
        ("1e-999999999", NumberError::Underflow),
        (&long, NumberError::TooPrecise),
        (&spread, NumberError::TooPrecise),
        (
            "-1.23456789012345678901234567890123456789",
            NumberError::TooPrecise,
        ),
    ] {
        assert_eq!(Number::parse(text), Err(error), "{text}");
    }
}

#[test]
fn work_is_bounded_for_long_texts() {
    let zeros = "0".repeat(1_000_000);
    assert_eq!(parsed(&format!("{zeros}1.{zeros}")), parsed("1"));
    assert_eq!(
        Number::parse(&format!("1{zeros}")),
        Err(NumberError::Overflow)
    );
    assert_eq!(
        Number::parse(&format!("0.{zeros}1")),
        Err(NumberError::Underflow)
    );
    assert_eq!(
        Number::parse(&format!("1{zeros}x")),
        Err(NumberError::Malformed)
    );
    assert_eq!(parsed(&format!("1{zeros}e-1000000")), parsed("1"));
}

#[test]
fn sums_are_exact_or_refused() {
    let sum = |a: &str, b: &str| parsed(a).add(&parsed(b)).map(|sum| sum.to_string());
    let done = |text: &str| Ok(text.to_owned());
    assert_eq!(sum("0.1", "0.2"), done("0.3"));
    assert_eq!(sum("1", "-1"), done("0"));
    assert_eq!(sum("-5", "3"), done("-2"));
    assert_eq!(sum("5", "-8"), done("-3"));
    assert_eq!(sum("99", "1"), done("100"));
    assert_eq!(
        sum("1e125", "1e125"),
        done(&format!("2{}", "0".repeat(125)))
    );
    assert_eq!(sum("9.9e125", "9.9e125"), Err(NumberError::Overflow));
    assert_eq!(sum("1e38", "1"), Err(NumberError::TooPrecise));
    assert_eq!(sum("1e125", "1e-130"), Err(NumberError::TooPrecise));
    assert_eq!(
        sum("1e37", "1"),
        done("10000000000000000000000000000000000001")
    );
    // 39 digits less 38 digits leaves 38 digits.
    let nines = "9".repeat(37);
    assert_eq!(sum("1e38", &format!("-{nines}9")), done("1"));
    assert_eq!(
        sum(&format!("{nines}9"), "1"),
        done(&format!("1{}", "0".repeat(38)))
    );
    assert_eq!(
        sum(&format!("{nines}9"), &format!("{nines}9")),
        Err(NumberError::TooPrecise)
    );
    assert_eq!(sum("1.1e-130", "-1e-130"), Err(NumberError::Underflow));
    assert_eq!(
        parsed("3").sub(&parsed("5")).map(|n| n.to_string()),
        done("-2")
    );
    assert_eq!(parsed("0").sub(&parsed("0")), Ok(Number::ZERO));
}

#[test]
fn whole_numbers_convert() {
    assert_eq!(parsed("1e3").to_u64(), Some(1000));
    assert_eq!(parsed("1.5").to_u64(), None);
    assert_eq!(parsed("-1").to_u64(), None);
    assert_eq!(parsed("-1").to_i64(), Some(-1));
    assert_eq!(Number::from(u64::MAX).to_u64(), Some(u64::MAX));
    assert_eq!(Number::from(i64::MIN).to_i64(), Some(i64::MIN));
    assert_eq!(parsed("18446744073709551616").to_u64(), None);
    assert_eq!(parsed("1e125").to_u64(), None);
    assert_eq!(Number::from(0u64), Number::ZERO);
    assert_eq!(Number::from(100u64), parsed("100"));
}

#[test]
fn binary_form_is_compact() {
    for (text, length) in [("0", 2), ("7", 3), ("-42", 3), ("123", 4), ("1e125", 3)] {
        assert_eq!(encoded(&parsed(text)).len(), length, "{text}");
    }
    assert_eq!(encoded(&parsed(&"9".repeat(38))).len(), 21);
    assert_eq!(size_of::<Number>(), 24);
}

/// Reference: sign, then digits spelled out at the same places.
fn compare_texts(a: &str, b: &str) -> Ordering {
    fn spelled(text: &str) -> (bool, String) {
        let (negative, magnitude) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = magnitude.split_once('.').unwrap_or((magnitude, ""));
        (negative, format!("{whole:0>130}.{part:0<170}"))
    }
    match (spelled(a), spelled(b)) {
        ((false, a), (false, b)) => a.cmp(&b),
        ((true, a), (true, b)) => b.cmp(&a),
        ((true, _), (false, _)) => Ordering::Less,
        ((false, _), (true, _)) => Ordering::Greater,
    }
}

proptest! {
    #[test]
    fn text_round_trips(text in number_text()) {
        let number = parsed(&text);
        let normal = number.to_string();
        prop_assert_eq!(parsed(&normal), number);
        prop_assert!(!normal.contains(['e', 'E', '+']));
        prop_assert!(!(normal.contains('.') && normal.ends_with(['0', '.'])));
        let mut written = Vec::new();
        number.write_text(&mut written);
        prop_assert_eq!(written, normal.into_bytes());
    }

    #[test]
    fn any_text_is_parsed_without_panic(text in any::<String>(), digits in "[-+.0-9eE]{0,60}") {
        for text in [text, digits] {
            if let Ok(number) = Number::parse(&text) {
                prop_assert_eq!(parsed(&number.to_string()), number);
            }
        }
    }

    #[test]
    fn order_is_numeric_in_all_forms(a in number(), b in number()) {
        let expected = compare_texts(&a.to_string(), &b.to_string());
        prop_assert_eq!(a.cmp(&b), expected);
        prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), expected);
        prop_assert_eq!(a == b, expected == Ordering::Equal);
    }

    #[test]
    fn order_of_neighbours(a in -2000i64..2000, b in -2000i64..2000, places in 0i32..4) {
        let scaled = |n: i64| parsed(&format!("{n}e-{places}"));
        prop_assert_eq!(scaled(a).cmp(&scaled(b)), a.cmp(&b));
        prop_assert_eq!(encoded(&scaled(a)).cmp(&encoded(&scaled(b))), a.cmp(&b));
    }

    #[test]
    fn binary_form_round_trips(number in number(), rest in any::<[u8; 3]>()) {
        let mut bytes = encoded(&number);
        let length = bytes.len();
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(Number::decode(&bytes), Some((number, length)));
        prop_assert_eq!(Number::decode(&bytes[..length - 1]), None);
    }

    #[test]
    fn decoding_accepts_only_what_is_encoded(
        bytes in prop::collection::vec(any::<u8>(), 0..24),
        leading in 0x7f00u16..0x8101,
    ) {
        let mut near = leading.to_be_bytes().to_vec();
        near.extend_from_slice(&bytes);
        for bytes in [bytes, near] {
            if let Some((number, length)) = Number::decode(&bytes) {
                prop_assert_eq!(encoded(&number), &bytes[..length]);
                prop_assert_eq!(parsed(&number.to_string()), number);
            }
        }
    }

    #[test]
    fn sums_agree_with_integers(a in any::<i64>(), b in any::<i64>(), scale in -60i32..60) {
        let scaled = |n: i128| parsed(&format!("{n}e{scale}"));
        let (a, b) = (i128::from(a), i128::from(b));
        prop_assert_eq!(scaled(a).add(&scaled(b)), Ok(scaled(a + b)));
        prop_assert_eq!(scaled(a).sub(&scaled(b)), Ok(scaled(a - b)));
    }

    #[test]
    fn sums_are_consistent(a in number(), b in number()) {
        prop_assert_eq!(a.add(&b), b.add(&a));
        if let Ok(sum) = a.add(&b) {
            prop_assert_eq!(sum.sub(&b), Ok(a));
            prop_assert_eq!(sum.cmp(&a), b.cmp(&Number::ZERO));
        }
    }

    #[test]
    fn serde_round_trips(number in number()) {
        let json = serde_json::to_string(&number).unwrap();
        prop_assert_eq!(serde_json::from_str::<Number>(&json).unwrap(), number);
    }
}
