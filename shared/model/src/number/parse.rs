//! Reads the text of a number. The work is linear in the length of the text, whatever its exponent says.

use super::{DIGITS_MAX, LEADING_MAX, LEADING_MIN, Number, NumberError};

/// Value of a text of up to 18 plain digits: what nearly all numbers are.
pub(super) fn small_integer(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 18 {
        return None;
    }
    let mut value = 0u64;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

pub(super) fn general(bytes: &[u8]) -> Result<Number, NumberError> {
    let (negative, bytes) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    let mut coefficient = 0u128;
    // Digits from the first one that is not zero on; they are folded into the coefficient while they fit. Zeros wait
    // until another digit follows them, so trailing zeros never count.
    let (mut significant, mut zeros) = (0i64, 0i64);
    let (mut any_digit, mut point_at, mut at) = (false, None, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'0' => {
                any_digit = true;
                if significant > 0 {
                    zeros += 1;
                }
            }
            digit @ b'1'..=b'9' => {
                any_digit = true;
                significant += zeros + 1;
                if significant <= i64::from(DIGITS_MAX) {
                    coefficient *= 10u128.pow(zeros as u32 + 1);
                    coefficient += u128::from(digit - b'0');
                }
                zeros = 0;
            }
            b'.' if point_at.is_none() => point_at = Some(at),
            b'e' | b'E' => break,
            _ => return Err(NumberError::Malformed),
        }
        at += 1;
    }
    if !any_digit {
        return Err(NumberError::Malformed);
    }
    let fraction_digits = point_at.map_or(0, |point| (at - point - 1) as i64);
    let written = if at < bytes.len() {
        parse_exponent(&bytes[at + 1..])?
    } else {
        0
    };
    if significant == 0 {
        return Ok(Number::ZERO);
    }
    let exponent = i64::from(written) - fraction_digits + zeros;
    let leading = exponent + significant - 1;
    if leading > i64::from(LEADING_MAX) {
        return Err(NumberError::Overflow);
    }
    if leading < i64::from(LEADING_MIN) {
        return Err(NumberError::Underflow);
    }
    if significant > i64::from(DIGITS_MAX) {
        return Err(NumberError::TooPrecise);
    }
    Ok(Number::from_normal(negative, coefficient, exponent as i32))
}

/// An exponent that 32 bits cannot hold makes the whole text malformed, as it does in the service.
pub(super) fn parse_exponent(bytes: &[u8]) -> Result<i32, NumberError> {
    let (negative, bytes) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    if bytes.is_empty() {
        return Err(NumberError::Malformed);
    }
    let mut value = 0i32;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(NumberError::Malformed);
        }
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i32::from(digit)))
            .ok_or(NumberError::Malformed)?;
    }
    Ok(if negative { -value } else { value })
}
