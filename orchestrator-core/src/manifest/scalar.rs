//! What a plain YAML scalar means: the rules of YAML 1.1 as kubectl applies them.

use serde_json::{Number, Value};

/// Returns what a plain (unquoted) scalar means.
///
/// # Errors
/// Infinities and not-a-number, which JSON cannot express.
pub(super) fn resolve(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            Value::Bool(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            Value::Bool(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF"
        | ".nan" | ".NaN" | ".NAN" => {
            return Err(format!("{text} is no number that JSON can hold"));
        }
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    })
}

fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

/// Decimal, or by prefix: `0x` hexadecimal, `0b` binary, `0o` and plain `0` octal (0644 is a file mode).
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(magnitude.into());
    }
    let value = -i128::from(magnitude);
    i64::try_from(value).ok().map(Number::from)
}

fn float(text: &str) -> Option<Number> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)))
        }
        None => (body, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    if !well_formed {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    // kubectl's detour through JSON writes whole floats without a point, so `1e3` fits an integer field.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        #[allow(clippy::cast_possible_truncation)]
        return Some((value as i64).into());
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        assert_eq!(resolve(text), Ok(expected), "{text:?}");
    }

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        check("", Value::Null);
        check("~", Value::Null);
        check("yes", json!(true));
        check("off", json!(false));
        check("0644", json!(420));
        check("0o17", json!(15));
        check("0x1F", json!(31));
        check("-12", json!(-12));
        check("+5", json!(5));
        check("1_000", json!(1000));
        check("08", json!(8));
        check("1e3", json!(1000));
        check("0.5", json!(0.5));
        check(".5", json!(0.5));
        check("18446744073709551615", json!(u64::MAX));
        check("-9223372036854775808", json!(i64::MIN));
    }

    #[test]
    fn what_only_looks_like_a_number_stays_text() {
        for text in
            ["1.2.3", "1:30", "2026-01-01", "0x", "-", "+", ".", "1e", "100m", "1Gi", "-a", "0b2x"]
        {
            check(text, json!(text));
        }
    }

    #[test]
    fn infinity_is_refused() {
        assert!(resolve("-.inf").is_err());
        assert!(resolve(".nan").is_err());
    }
}
